// Renders a Helm chart as `helm template` does, for the tests: the same template engine and functions, the same rules for
// values, and objects as one JSON list on standard output. What the charts here do not use (subcharts, hooks, files, lookups) is
// not there, and a value that does not exist is an error, as with `helm lint --strict`.
//
//	render CHART NAMESPACE <values.yaml   the chart's objects, with these values over its own
//	render --json <objects.yaml           the objects of a stream of YAML
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"github.com/xeipuuv/gojsonschema"
	"gopkg.in/yaml.v3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var objects []interface{}
	switch {
	case len(arguments) == 1 && arguments[0] == "--json":
		objects, err = documents(string(input))
	case len(arguments) == 2:
		objects, err = chart(arguments[0], arguments[1], input)
	default:
		err = errors.New("give CHART NAMESPACE, or --json")
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(objects)
}

// The objects of a chart. Notes are rendered too, and left out.
func chart(folder, namespace string, given []byte) ([]interface{}, error) {
	values, err := valuesOf(folder, given)
	if err != nil {
		return nil, err
	}
	about, err := readMap(filepath.Join(folder, "Chart.yaml"))
	if err != nil {
		return nil, err
	}
	// Templates see the fields of Chart.yaml under the names that Go gives them.
	metadata := map[string]interface{}{"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]}
	release := map[string]interface{}{
		"Name": "sotto", "Namespace": namespace, "Service": "Helm", "IsInstall": true, "IsUpgrade": false, "Revision": 1,
	}
	paths, err := filepath.Glob(filepath.Join(folder, "templates", "*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(paths)
	all := template.New("chart").Option("missingkey=error")
	all.Funcs(functions(all))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if _, err := all.New(filepath.Base(path)).Parse(string(text)); err != nil {
			return nil, err
		}
	}
	var objects []interface{}
	for _, path := range paths {
		name := filepath.Base(path)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var text strings.Builder
		context := map[string]interface{}{"Values": values, "Release": release, "Chart": metadata}
		if err := all.ExecuteTemplate(&text, name, context); err != nil {
			return nil, err
		}
		if name == "NOTES.txt" {
			continue
		}
		found, err := documents(text.String())
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", name, err, text.String())
		}
		objects = append(objects, found...)
	}
	return objects, nil
}

// The chart's own values with the given ones over them, held against its schema.
func valuesOf(folder string, given []byte) (map[string]interface{}, error) {
	values, err := readMap(filepath.Join(folder, "values.yaml"))
	if err != nil {
		return nil, err
	}
	over := map[string]interface{}{}
	if err := decode(given, &over); err != nil {
		return nil, fmt.Errorf("the given values: %w", err)
	}
	merge(values, over)
	schema, err := os.ReadFile(filepath.Join(folder, "values.schema.json"))
	if err != nil {
		return nil, err
	}
	result, err := gojsonschema.Validate(gojsonschema.NewBytesLoader(schema), gojsonschema.NewGoLoader(values))
	if err != nil {
		return nil, fmt.Errorf("values.schema.json: %w", err)
	}
	if !result.Valid() {
		return nil, fmt.Errorf("values that the schema does not take: %v", result.Errors())
	}
	return values, nil
}

// Maps are merged, anything else is replaced, and null takes a key away.
func merge(values, over map[string]interface{}) {
	for key, value := range over {
		inner, isMap := value.(map[string]interface{})
		old, wasMap := values[key].(map[string]interface{})
		switch {
		case value == nil:
			delete(values, key)
		case isMap && wasMap:
			merge(old, inner)
		default:
			values[key] = value
		}
	}
}

// Sprig's functions without those that read the environment, and Helm's own.
func functions(all *template.Template) template.FuncMap {
	functions := sprig.TxtFuncMap()
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["include"] = func(name string, context interface{}) (string, error) {
		var text strings.Builder
		err := all.ExecuteTemplate(&text, name, context)
		return text.String(), err
	}
	functions["tpl"] = func(text string, context interface{}) (string, error) {
		fresh, err := all.Clone()
		if err != nil {
			return "", err
		}
		var out strings.Builder
		if fresh, err = fresh.New("tpl").Parse(text); err == nil {
			err = fresh.Execute(&out, context)
		}
		return out.String(), err
	}
	functions["toYaml"] = func(value interface{}) (string, error) {
		var text bytes.Buffer
		encoder := yaml.NewEncoder(&text)
		encoder.SetIndent(2)
		err := encoder.Encode(value)
		return strings.TrimSuffix(text.String(), "\n"), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return value, errors.New(message)
		}
		return value, nil
	}
	return functions
}

func readMap(path string) (map[string]interface{}, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	value := map[string]interface{}{}
	if err := decode(text, &value); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return value, nil
}

// Helm reads YAML by way of JSON, which makes every number a float.
func decode(text []byte, into *map[string]interface{}) error {
	var value interface{}
	if err := yaml.Unmarshal(text, &value); err != nil || value == nil {
		return err
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(asJSON, into)
}

// The objects of a stream of YAML; documents without content are none.
func documents(text string) ([]interface{}, error) {
	objects := []interface{}{}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var object interface{}
		switch err := decoder.Decode(&object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case object != nil:
			objects = append(objects, object)
		}
	}
}
