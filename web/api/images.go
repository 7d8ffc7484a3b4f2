package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// importedImage is an image that the operator has brought to the box.
type importedImage struct {
	Names  []string `json:"names" nullable:"false" doc:"What a launch's image may say." example:"[\"registry.example.org/team/trainer:3\"]"`
	Digest string   `json:"digest" doc:"What its names mean now." example:"sha256:9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0"`
	Bytes  int64    `json:"bytes" doc:"Compressed." example:"48213504"`
}

type imagesOutput struct{ Body page[importedImage] }

func (a *api) addImages() {
	register(a, huma.Operation{
		OperationID: "list-images", Method: http.MethodGet, Path: "/v1/images", Tags: []string{tagInstances},
		Summary:     "List the images on this box",
		Description: "Those that the operator has brought here, by name, in one page: they are launched without asking a registry. Any other image that a registry has can be launched as well.",
	}, a.listImages)
}

func (a *api) listImages(ctx context.Context, _ *struct{}) (*imagesOutput, error) {
	all, err := a.Scheduler.ImportedImages(ctx)
	out := page[importedImage]{Data: []importedImage{}}
	for _, i := range all {
		out.Data = append(out.Data, importedImage{Names: i.Names, Digest: i.Digest, Bytes: i.Bytes})
	}
	return &imagesOutput{out}, err
}
