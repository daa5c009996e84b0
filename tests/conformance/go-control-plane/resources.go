package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// resources are a whole snapshot in protobuf's JSON mapping.
type resources struct {
	Clusters  []json.RawMessage `json:"clusters"`
	Endpoints []json.RawMessage `json:"endpoints"`
	Listeners []json.RawMessage `json:"listeners"`
	Routes    []json.RawMessage `json:"routes"`
	Secrets   []json.RawMessage `json:"secrets"`
	// unused are clusters beside them.
	unused []types.Resource
}

// beside adds clusters that differ from turn to turn.
func (r resources) beside(count, turn int) resources {
	for i := range count {
		name := fmt.Sprintf("unused-%d", i)
		r.unused = append(r.unused, &cluster.Cluster{
			Name:                 name,
			ConnectTimeout:       durationpb.New(time.Second + time.Duration(turn)*time.Millisecond),
			ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
			LoadAssignment:       &endpoint.ClusterLoadAssignment{ClusterName: name},
		})
	}
	return r
}

func (r resources) snapshot(version string) (*cache.Snapshot, error) {
	all := map[resource.Type][]types.Resource{}
	kinds := []struct {
		of    resource.Type
		texts []json.RawMessage
		empty func() proto.Message
	}{
		{resource.ClusterType, r.Clusters, func() proto.Message { return &cluster.Cluster{} }},
		{resource.EndpointType, r.Endpoints, func() proto.Message { return &endpoint.ClusterLoadAssignment{} }},
		{resource.ListenerType, r.Listeners, func() proto.Message { return &listener.Listener{} }},
		{resource.RouteType, r.Routes, func() proto.Message { return &route.RouteConfiguration{} }},
		{resource.SecretType, r.Secrets, func() proto.Message { return &tls.Secret{} }},
	}
	for _, kind := range kinds {
		for _, text := range kind.texts {
			message := kind.empty()
			if err := protojson.Unmarshal(text, message); err != nil {
				return nil, fmt.Errorf("%s: %w", kind.of, err)
			}
			all[kind.of] = append(all[kind.of], message)
		}
	}
	all[resource.ClusterType] = slices.Concat(all[resource.ClusterType], r.unused)
	return cache.NewSnapshot(version, all)
}
