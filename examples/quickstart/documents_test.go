package quickstart

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/xds/route"
)

func TestDocumentsWait(t *testing.T) {
	d := newDocuments()
	document := func(topics ...string) (c route.Config) {
		for _, topic := range topics {
			c.Routes = append(c.Routes, route.Route{Policy: route.Policy{Topic: topic}})
		}
		return c
	}
	d.add(document("b", "a", "b"))
	d.add(document("c"))
	ctx, cancel := context.WithCancel(t.Context())
	all, err := d.next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var topics [][]string
	for _, c := range all {
		topics = append(topics, c.Topics())
	}
	if diff := cmp.Diff([][]string{{"a", "b"}, {"c"}}, topics); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
	cancel()
	if all, err := d.next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("nothing waits: %v, %v", all, err)
	}
}
