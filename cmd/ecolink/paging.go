package main

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// pageSize is how much of a list is asked for at once.
const pageSize = 200

// list yields a list of the API, whose path is given, page after page. limit
// bounds how many are yielded; 0 means all.
func list[T any](ctx context.Context, c *client, path string, limit int) iter.Seq2[record[T], error] {
	return func(yield func(record[T], error) bool) {
		cursor, left := "", limit
		for {
			size := pageSize
			if limit > 0 {
				size = min(size, left)
			}
			page, err := readPage[T](ctx, c, path, size, cursor)
			if err != nil {
				yield(record[T]{}, err)
				return
			}
			for _, r := range page.Data {
				if !yield(r, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if page.NextCursor == nil || *page.NextCursor == "" {
				return
			}
			cursor = *page.NextCursor
		}
	}
}

type page[T any] struct {
	Data       []record[T] `json:"data"`
	NextCursor *string     `json:"next_cursor"`
}

func readPage[T any](ctx context.Context, c *client, path string, size int, cursor string) (p page[T], err error) {
	q := url.Values{"limit": {strconv.Itoa(size)}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return p, c.do(ctx, http.MethodGet, path+"?"+q.Encode(), nil, &p)
}

// collect gathers what a list yields; never nil, so that JSON says [].
func collect[T any](seq iter.Seq2[record[T], error]) ([]record[T], error) {
	out := []record[T]{}
	for r, err := range seq {
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
