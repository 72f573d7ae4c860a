// Says what GitOps tools make of our objects, with these tools' own code where it can be imported.
//
//	gitops health HEALTH.lua...   reads a JSON list of objects; prints what kstatus (Flux, Helm) and Argo CD say of each
//	gitops decode                 reads a JSON list of objects of these tools; prints what is wrong with each
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("health or decode?")
	}
	var objects []unstructured.Unstructured
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return err
	}
	answers := []any{}
	for _, object := range objects {
		answer, err := answerTo(arguments, object.Object)
		if err != nil {
			return err
		}
		answers = append(answers, answer)
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func answerTo(arguments []string, object map[string]any) (any, error) {
	if arguments[0] == "decode" {
		return decode(object), nil
	}
	flux, err := kstatus(object)
	if err != nil {
		return nil, err
	}
	for _, file := range arguments[1:] {
		if filepath.Base(filepath.Dir(file)) != object["kind"] {
			continue
		}
		argo, err := argoHealth(object, file)
		return map[string]any{"kstatus": flux, "argo": argo}, err
	}
	return map[string]any{"kstatus": flux}, nil
}
