package api

import (
	"net/http"
	"strconv"

	"ecolink/web"
)

// page is a part of a list.
type page[T any] struct {
	Data       []T     `json:"data" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"Pass it as cursor for what follows; null at the end." example:"142"`
}

// PageQuery is how a list is asked for.
type PageQuery struct {
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"How many to return at most."`
	Cursor string `query:"cursor" doc:"next_cursor of the page before; the first page without it."`
}

// before is the number that the page's rows are below; 0 for the first page.
func (q PageQuery) before() (int64, error) {
	if q.Cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(q.Cursor, 10, 64)
	if err != nil || n < 1 {
		return 0, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "cursor",
			"this is not a cursor: pass the next_cursor of the page before, or none for the first page")
	}
	return n, nil
}

// paginate makes a page of at most limit rows from a list that has one more when
// there is more. number is what a row's cursor is made of.
func paginate[T any](rows []T, limit int, number func(T) int64) page[T] {
	if len(rows) <= limit {
		if rows == nil {
			rows = []T{}
		}
		return page[T]{Data: rows}
	}
	next := strconv.FormatInt(number(rows[limit-1]), 10)
	return page[T]{Data: rows[:limit], NextCursor: &next}
}
