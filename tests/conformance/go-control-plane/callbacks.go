package main

import (
	"context"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	status "google.golang.org/genproto/googleapis/rpc/status"
)

// verdict names what a request means: the first of its type, an acknowledgement or a refusal.
func verdict(nonce string, detail *status.Status) string {
	switch {
	case detail != nil:
		return "nack"
	case nonce != "":
		return "ack"
	default:
		return "subscribe"
	}
}

// callbacks reports everything that happens on the streams.
func callbacks(output *out) server.Callbacks {
	opened := func(kind string) func(context.Context, int64, string) error {
		return func(_ context.Context, id int64, typeURL string) error {
			output.line(map[string]any{"event": "open", "kind": kind, "stream": id, "type": typeURL})
			return nil
		}
	}
	closed := func(kind string) func(int64, *core.Node) {
		return func(id int64, _ *core.Node) {
			output.line(map[string]any{"event": "close", "kind": kind, "stream": id})
		}
	}
	return server.CallbackFuncs{
		StreamOpenFunc:        opened("sotw"),
		DeltaStreamOpenFunc:   opened("delta"),
		StreamClosedFunc:      closed("sotw"),
		DeltaStreamClosedFunc: closed("delta"),
		StreamRequestFunc: func(id int64, r *discovery.DiscoveryRequest) error {
			output.line(map[string]any{
				"event": verdict(r.ResponseNonce, r.ErrorDetail), "kind": "sotw", "stream": id, "type": r.TypeUrl,
				"version": r.VersionInfo, "names": r.ResourceNames, "error": r.GetErrorDetail().GetMessage(),
			})
			return nil
		},
		StreamDeltaRequestFunc: func(id int64, r *discovery.DeltaDiscoveryRequest) error {
			output.line(map[string]any{
				"event": verdict(r.ResponseNonce, r.ErrorDetail), "kind": "delta", "stream": id, "type": r.TypeUrl,
				"names": r.ResourceNamesSubscribe, "error": r.GetErrorDetail().GetMessage(),
			})
			return nil
		},
	}
}
