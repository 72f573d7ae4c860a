// Validates a bundle for the Operator Lifecycle Manager with OLM's own code, as `operator-sdk bundle validate` does with all
// of its suites. Prints a JSON list of all errors and warnings.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/api/pkg/validation"
	"github.com/operator-framework/api/pkg/validation/errors"
)

// All but those that need a catalogue, another kind of file or a container engine.
var validators = validation.DefaultBundleValidators.WithValidators(
	validation.OperatorHubV2Validator,
	validation.StandardCategoriesValidator,
	validation.StandardCapabilitiesValidator,
	validation.ObjectValidator,
	validation.AlphaDeprecatedAPIsValidator,
	validation.GoodPracticesValidator,
)

func main() {
	bundle, err := manifests.GetBundleFromDir(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	complaints := []errors.Error{}
	for _, result := range validators.Validate(bundle.ObjectsToValidate()...) {
		complaints = append(append(complaints, result.Errors...), result.Warnings...)
	}
	if err := json.NewEncoder(os.Stdout).Encode(complaints); err != nil {
		panic(err)
	}
}
