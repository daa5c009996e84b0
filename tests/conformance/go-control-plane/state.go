package main

import (
	"fmt"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/wellknown"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const loopback = "127.0.0.1"

// state is everything that the served configuration is made of.
type state struct {
	// Port is where the proxy is to listen; with TLS set it serves TLS by the secret "server".
	Port uint32 `json:"port"`
	TLS  bool   `json:"tls"`
	// A and B are the ports of the two clusters' endpoints on 127.0.0.1.
	A []uint32 `json:"a"`
	B []uint32 `json:"b"`
	// WeightA of 100 goes to cluster "a".
	WeightA uint32 `json:"weight_a"`
	// ExtraClusters and ExtraRoutes stand beside the ones in use.
	ExtraClusters int `json:"extra_clusters"`
	ExtraRoutes   int `json:"extra_routes"`
	// SwapEndpoints turns the order of the endpoints around.
	SwapEndpoints bool `json:"swap_endpoints"`
	// Certificates are pairs that the secret takes in turn, by SecretSerial.
	Certificates []certificate `json:"certificates"`
	SecretSerial int           `json:"secret_serial"`
	// Broken adds a cluster that no client can take.
	Broken bool `json:"broken"`
	// Separate names the sources of RDS, EDS and SDS as services of their own instead of ADS.
	Separate string `json:"separate"`
}

type certificate struct {
	Chain string `json:"chain"`
	Key   string `json:"key"`
}

func must(message proto.Message) *anypb.Any {
	packed, err := anypb.New(message)
	if err != nil {
		panic(err)
	}
	return packed
}

// source is where the client is to get a nested resource from.
func (s state) source() *core.ConfigSource {
	if s.Separate == "" {
		return &core.ConfigSource{
			ResourceApiVersion:    core.ApiVersion_V3,
			ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
		}
	}
	kind := core.ApiConfigSource_GRPC
	if s.Separate == "delta" {
		kind = core.ApiConfigSource_DELTA_GRPC
	}
	return &core.ConfigSource{
		ResourceApiVersion: core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_ApiConfigSource{ApiConfigSource: &core.ApiConfigSource{
			ApiType:             kind,
			TransportApiVersion: core.ApiVersion_V3,
			GrpcServices: []*core.GrpcService{{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: "control_plane"},
			}}},
		}},
	}
}

func (s state) snapshot(version string) (*cache.Snapshot, error) {
	clusters, endpoints := s.clusters()
	return cache.NewSnapshot(version, map[resource.Type][]types.Resource{
		resource.ClusterType:  clusters,
		resource.EndpointType: endpoints,
		resource.RouteType:    {s.routes()},
		resource.ListenerType: {s.listener()},
		resource.SecretType:   s.secrets(),
	})
}

func (s state) clusters() (clusters, endpoints []types.Resource) {
	add := func(name string, ports []uint32) {
		clusters = append(clusters, &cluster.Cluster{
			Name:                 name,
			ConnectTimeout:       durationpb.New(2 * time.Second),
			ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: s.source()},
		})
		endpoints = append(endpoints, s.assignment(name, ports))
	}
	add("a", s.A)
	add("b", s.B)
	for i := range s.ExtraClusters {
		add(fmt.Sprintf("extra-%d", i), s.A)
	}
	if s.Broken {
		clusters = append(clusters, &cluster.Cluster{
			Name:                 "broken",
			ConnectTimeout:       durationpb.New(time.Second),
			ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
			LoadAssignment: &endpoint.ClusterLoadAssignment{
				ClusterName: "broken",
				Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: []*endpoint.LbEndpoint{{
					HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
						Address: address("no.address", 80),
					}},
				}}}},
			},
		})
	}
	return clusters, endpoints
}

func (s state) assignment(name string, ports []uint32) *endpoint.ClusterLoadAssignment {
	var endpoints []*endpoint.LbEndpoint
	for i := range ports {
		port := ports[i]
		if s.SwapEndpoints {
			port = ports[len(ports)-1-i]
		}
		endpoints = append(endpoints, &endpoint.LbEndpoint{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address(loopback, port)}},
		})
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints:   []*endpoint.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}
}

func address(host string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: host, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

func (s state) routes() *route.RouteConfiguration {
	weighted := func(name string, weight uint32) *route.WeightedCluster_ClusterWeight {
		return &route.WeightedCluster_ClusterWeight{Name: name, Weight: wrapperspb.UInt32(weight)}
	}
	var routes []*route.Route
	for i := range s.ExtraRoutes {
		routes = append(routes, &route.Route{
			Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Path{Path: fmt.Sprintf("/extra/%d", i)}},
			Action: &route.Route_Route{Route: &route.RouteAction{
				ClusterSpecifier: &route.RouteAction_Cluster{Cluster: "a"},
			}},
		})
	}
	routes = append(routes, &route.Route{
		Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
		Action: &route.Route_Route{Route: &route.RouteAction{
			ClusterSpecifier: &route.RouteAction_WeightedClusters{WeightedClusters: &route.WeightedCluster{
				Clusters: []*route.WeightedCluster_ClusterWeight{weighted("a", s.WeightA), weighted("b", 100-min(100, s.WeightA))},
			}},
		}},
	})
	return &route.RouteConfiguration{
		Name:         "routes",
		VirtualHosts: []*route.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: routes}},
	}
}

func (s state) listener() *listener.Listener {
	manager := &hcm.HttpConnectionManager{
		StatPrefix: "ingress",
		RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{
			RouteConfigName: "routes", ConfigSource: s.source(),
		}},
		HttpFilters: []*hcm.HttpFilter{{
			Name:       wellknown.Router,
			ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: must(&router.Router{})},
		}},
	}
	chain := &listener.FilterChain{Filters: []*listener.Filter{{
		Name:       wellknown.HTTPConnectionManager,
		ConfigType: &listener.Filter_TypedConfig{TypedConfig: must(manager)},
	}}}
	if s.TLS {
		chain.TransportSocket = &core.TransportSocket{
			Name: wellknown.TransportSocketTls,
			ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: must(&tls.DownstreamTlsContext{
				CommonTlsContext: &tls.CommonTlsContext{
					TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{{Name: "server", SdsConfig: s.source()}},
				},
			})},
		}
	}
	return &listener.Listener{Name: "ingress", Address: address(loopback, s.Port), FilterChains: []*listener.FilterChain{chain}}
}

func (s state) secrets() []types.Resource {
	if len(s.Certificates) == 0 {
		return nil
	}
	pair := s.Certificates[s.SecretSerial%len(s.Certificates)]
	inline := func(text string) *core.DataSource {
		return &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: text}}
	}
	return []types.Resource{&tls.Secret{
		Name: "server",
		Type: &tls.Secret_TlsCertificate{TlsCertificate: &tls.TlsCertificate{
			CertificateChain: inline(pair.Chain), PrivateKey: inline(pair.Key),
		}},
	}}
}
