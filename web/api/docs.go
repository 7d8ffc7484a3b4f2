package api

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

var (
	//go:embed docs.html
	docsPage string
	//go:embed docs.css
	docsStyle string
)

// addDocuments serves the OpenAPI document and the page that shows it. It comes
// last: both are made once, of all that was registered before. huma's own page
// loads a script from a public CDN, which a box without the Internet has not;
// ours is one file without scripts.
func (a *api) addDocuments() {
	doc := a.huma.OpenAPI()
	op := &huma.Operation{
		OperationID: "get-openapi", Method: http.MethodGet, Path: "/v1/openapi.json", Tags: []string{tagSystem}, Security: public,
		Summary: "Read this document", Description: "The OpenAPI 3.1 document of this API. Needs no API key; /docs shows it to people.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The document.",
			Content:     map[string]*huma.MediaType{"application/openapi+json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
		}},
	}
	doc.AddOperation(op)
	// huma registers its own error shape, which reshape replaces in every answer.
	delete(doc.Components.Schemas.Map(), "ErrorModel")
	delete(doc.Components.Schemas.Map(), "ErrorDetail")
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		panic(err) // it depends on nothing but the code
	}
	a.mux.HandleFunc(op.Method+" "+op.Path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(raw)
	})
	page, policy := renderDocs(doc)
	a.mux.HandleFunc("GET /docs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		w.Write(page)
	})
}

// renderDocs makes the page and the policy under which a browser shows it: its
// own style, and nothing else.
func renderDocs(doc *huma.OpenAPI) (page []byte, policy string) {
	t := template.Must(template.New("docs").Parse(docsPage))
	var b bytes.Buffer
	err := t.Execute(&b, map[string]any{
		"Info": doc.Info, "Style": template.CSS(docsStyle), "Sections": docSections(doc), "Schemas": docSchemas(doc),
	})
	if err != nil {
		panic(err) // it depends on nothing but the code
	}
	sum := sha256.Sum256([]byte(docsStyle))
	return b.Bytes(), fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(sum[:]))
}

// docSection is what the page shows of a tag.
type docSection struct {
	Tag        *huma.Tag
	Anchor     string
	Operations []docOperation
}

type docOperation struct {
	*huma.Operation
	Public    bool
	Request   *docType // nil: no body
	Responses []docResponse
}

type docResponse struct {
	Status, Description string
	Types               []docContent
}

type docContent struct {
	Media string
	Type  docType
}

// docSchema is what the page shows of an object.
type docSchema struct {
	Name   string
	Fields []docField
}

type docField struct {
	Name, Description string
	Type              docType
	Required          bool
	Example           string
}

// docType is a type in words, with the schema that it links to.
type docType struct{ Text, Link string }

func docSections(doc *huma.OpenAPI) []docSection {
	var out []docSection
	for _, tag := range doc.Tags {
		s := docSection{Tag: tag, Anchor: strings.ReplaceAll(strings.ToLower(tag.Name), " ", "-")}
		for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
			item := doc.Paths[path]
			for _, op := range []*huma.Operation{item.Get, item.Head, item.Post, item.Put, item.Patch, item.Delete} {
				if op != nil && slices.Contains(op.Tags, tag.Name) {
					s.Operations = append(s.Operations, docOperationOf(op))
				}
			}
		}
		out = append(out, s)
	}
	return out
}

func docOperationOf(op *huma.Operation) docOperation {
	out := docOperation{Operation: op, Public: op.Security != nil && len(op.Security) == 0}
	if op.RequestBody != nil {
		for _, media := range op.RequestBody.Content { // there is one
			t := docTypeOf(media.Schema)
			out.Request = &t
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		r := op.Responses[status]
		shown := docResponse{Status: status, Description: r.Description}
		for _, media := range slices.Sorted(maps.Keys(r.Content)) {
			shown.Types = append(shown.Types, docContent{Media: media, Type: docTypeOf(r.Content[media].Schema)})
		}
		out.Responses = append(out.Responses, shown)
	}
	return out
}

func docSchemas(doc *huma.OpenAPI) []docSchema {
	var out []docSchema
	schemas := doc.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		shown := docSchema{Name: name}
		for field, s := range schemas[name].Properties {
			f := docField{Name: field, Description: s.Description, Type: docTypeOf(s), Required: slices.Contains(schemas[name].Required, field)}
			if len(s.Examples) > 0 {
				f.Example = fmt.Sprint(s.Examples[0])
			}
			shown.Fields = append(shown.Fields, f)
		}
		slices.SortFunc(shown.Fields, func(x, y docField) int { return cmp.Compare(x.Name, y.Name) })
		out = append(out, shown)
	}
	return out
}

// docTypeOf says in words what a value is.
func docTypeOf(s *huma.Schema) docType {
	switch {
	case s == nil:
		return docType{}
	case s.Ref != "":
		name := s.Ref[strings.LastIndex(s.Ref, "/")+1:]
		return docType{Text: name, Link: name}
	case len(s.AnyOf) > 0:
		first := docTypeOf(s.AnyOf[0])
		first.Text += " or null"
		return first
	case s.Type == huma.TypeArray:
		item := docTypeOf(s.Items)
		item.Text = "list of " + item.Text
		return item
	}
	t := docType{Text: cmp.Or(s.Type, "any")}
	if len(s.Enum) > 0 {
		words := make([]string, len(s.Enum))
		for i, e := range s.Enum {
			words[i] = fmt.Sprint(e)
		}
		t.Text = "one of " + strings.Join(words, ", ")
	} else if s.Format == "date-time" {
		t.Text = "time"
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		t.Text = "object of " + docTypeOf(values).Text
	}
	if s.Nullable {
		t.Text += " or null"
	}
	return t
}
