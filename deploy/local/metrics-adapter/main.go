// A metrics adapter for the tests: it reads SGLang's metrics from Prometheus and offers them as custom metrics of pods.
//
// It uses the Kubernetes project's library for adapters, like prometheus-adapter. The tests do not use prometheus-adapter
// itself, because Go's module proxy does not have it. Names follow the rule for prometheus-adapter in
// docs/guide/scale.md: the custom metric sglang_x is Prometheus' sglang:x.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/metrics/pkg/apis/custom_metrics"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/cmd"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"
)

const (
	prefix   = "sglang_"
	patience = 5 * time.Second
)

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

type adapter struct {
	client     dynamic.Interface
	prometheus string
}

// GetMetricByName returns a metric of one pod.
func (a adapter) GetMetricByName(ctx context.Context, name types.NamespacedName, info provider.CustomMetricInfo, _ labels.Selector) (*custom_metrics.MetricValue, error) {
	values, err := a.ask(ctx, name.Namespace, info.Metric)
	if err != nil {
		return nil, err
	}
	quantity, found := values[name.Name]
	if !found {
		return nil, provider.NewMetricNotFoundForError(info.GroupResource, info.Metric, name.Name)
	}
	value := metric(name.Namespace, name.Name, info.Metric, quantity)
	return &value, nil
}

// GetMetricBySelector returns a metric of the pods that a selector finds. Pods without a value are left out.
func (a adapter) GetMetricBySelector(ctx context.Context, namespace string, selector labels.Selector, info provider.CustomMetricInfo, _ labels.Selector) (*custom_metrics.MetricValueList, error) {
	found, err := a.client.Resource(pods).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	values, err := a.ask(ctx, namespace, info.Metric)
	if err != nil {
		return nil, err
	}
	list := &custom_metrics.MetricValueList{}
	for _, pod := range found.Items {
		if quantity, has := values[pod.GetName()]; has {
			list.Items = append(list.Items, metric(namespace, pod.GetName(), info.Metric, quantity))
		}
	}
	if len(list.Items) == 0 {
		return nil, provider.NewMetricNotFoundError(info.GroupResource, info.Metric)
	}
	return list, nil
}

// ListAllMetrics serves discovery, which the autoscaler does not need.
func (a adapter) ListAllMetrics() []provider.CustomMetricInfo {
	return nil
}

// ask returns Prometheus' values of a metric for each pod of a namespace.
func (a adapter) ask(ctx context.Context, namespace, name string) (map[string]resource.Quantity, error) {
	series := "sglang:" + strings.TrimPrefix(name, prefix)
	query := fmt.Sprintf("sum by (pod) ({__name__=%q, namespace=%q})", series, namespace)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.prometheus+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer := struct {
		Data struct {
			Result []struct {
				Metric struct{ Pod string }
				Value  [2]any
			}
		}
	}{}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	values := map[string]resource.Quantity{}
	for _, sample := range answer.Data.Result {
		if value, err := resource.ParseQuantity(fmt.Sprint(sample.Value[1])); err == nil {
			values[sample.Metric.Pod] = value
		}
	}
	return values, nil
}

func metric(namespace, pod, name string, value resource.Quantity) custom_metrics.MetricValue {
	return custom_metrics.MetricValue{
		DescribedObject: custom_metrics.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: pod},
		Metric:          custom_metrics.MetricIdentifier{Name: name},
		Timestamp:       metav1.Now(),
		Value:           value,
	}
}

func main() {
	base := cmd.AdapterBase{Name: "metrics-adapter"}
	own := adapter{}
	base.Flags().StringVar(&own.prometheus, "prometheus", "http://127.0.0.1:9090", "address of Prometheus")
	if err := base.Flags().Parse(os.Args); err != nil {
		log.Fatal(err)
	}
	client, err := base.DynamicClient()
	if err != nil {
		log.Fatal(err)
	}
	own.client = client
	base.WithCustomMetrics(own)
	log.Fatal(base.Run(context.Background()))
}
