package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	helm "github.com/fluxcd/helm-controller/api/v2"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	source "github.com/fluxcd/source-controller/api/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

// The types of the tools' own resources.
var types = map[string]func() any{
	"helm.toolkit.fluxcd.io/v2/HelmRelease":        func() any { return &helm.HelmRelease{} },
	"kustomize.toolkit.fluxcd.io/v1/Kustomization": func() any { return &kustomize.Kustomization{} },
	"source.toolkit.fluxcd.io/v1/GitRepository":    func() any { return &source.GitRepository{} },
	"monitoring.coreos.com/v1/PodMonitor":          func() any { return &monitoring.PodMonitor{} },
	"monitoring.coreos.com/v1/ServiceMonitor":      func() any { return &monitoring.ServiceMonitor{} },
	"monitoring.coreos.com/v1/PrometheusRule":      func() any { return &monitoring.PrometheusRule{} },
}

// decode returns what keeps an object from being one of its type, empty if nothing does.
func decode(object map[string]any) string {
	name := fmt.Sprintf("%v/%v", object["apiVersion"], object["kind"])
	make, isKnown := types[name]
	if !isKnown {
		return "no type is known for " + name
	}
	text, err := json.Marshal(object)
	if err != nil {
		return err.Error()
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(make()); err != nil {
		return err.Error()
	}
	return ""
}
