// A control plane on go-control-plane's own snapshot cache and server.
//
// It serves one node: a listener whose routes come by RDS, the two clusters "a" and "b" (by EDS) that the routes share
// by weight, and a secret; or whatever resources it is given. Commands come as JSON lines on standard input, everything
// that the client says comes out as JSON lines on standard output. The first line out names the port.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	secret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// command is one line of standard input.
type command struct {
	// Op is "set" (the state becomes State), "storm" (Count pushes, PerSecond of them each second), "resources" (the
	// snapshot becomes Resources) or "churn" (Resources with Count clusters beside them that change PerSecond times
	// each second, until the process ends).
	Op        string    `json:"op"`
	State     state     `json:"state"`
	Resources resources `json:"resources"`
	Count     int       `json:"count"`
	PerSecond int       `json:"per_second"`
}

// out writes one JSON line at a time.
type out struct {
	lock sync.Mutex
}

func (o *out) line(value map[string]any) {
	o.lock.Lock()
	defer o.lock.Unlock()
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// plane is the cache with the state it was made of.
type plane struct {
	cache   cache.SnapshotCache
	node    string
	run     string
	version atomic.Int64
}

// source makes a snapshot of the given version.
type source interface {
	snapshot(version string) (*cache.Snapshot, error)
}

func (p *plane) set(s source) error {
	version := p.version.Add(1)
	// Versions of one process are not those of the next, as with a control plane that counts from its start.
	snapshot, err := s.snapshot(fmt.Sprintf("%s-%d", p.run, version))
	if err != nil {
		return err
	}
	if err := snapshot.Consistent(); err != nil {
		return fmt.Errorf("inconsistent snapshot: %w", err)
	}
	return p.cache.SetSnapshot(context.Background(), p.node, snapshot)
}

// storm changes weights, an extra cluster, an extra route and the secret with every push.
func (p *plane) storm(s state, count, perSecond int) error {
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for i := range count {
		changed := s
		changed.WeightA = uint32(i * 7 % 101)
		changed.ExtraClusters = i % 5
		changed.ExtraRoutes = i % 3
		changed.SecretSerial = i
		changed.SwapEndpoints = i%2 == 1
		if err := p.set(changed); err != nil {
			return err
		}
		<-ticker.C
	}
	return p.set(s)
}

// churn changes clusters that nobody uses, until the process ends.
func (p *plane) churn(r resources, count, perSecond int) error {
	if err := p.set(r.beside(count, 0)); err != nil {
		return err
	}
	go func() {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		for turn := 1; ; turn++ {
			<-ticker.C
			if err := p.set(r.beside(count, turn)); err != nil {
				panic(err)
			}
		}
	}()
	return nil
}

func (p *plane) carryOut(c command) error {
	switch c.Op {
	case "set":
		return p.set(c.State)
	case "resources":
		return p.set(c.Resources)
	case "churn":
		return p.churn(c.Resources, c.Count, c.PerSecond)
	case "storm":
		return p.storm(c.State, c.Count, c.PerSecond)
	default:
		return fmt.Errorf("unknown op %q", c.Op)
	}
}

func main() {
	ads := flag.Bool("ads", true, "hold back responses until every name is known, as ADS wants it")
	node := flag.String("node", "test", "the node that is served")
	listen := flag.String("listen", "127.0.0.1:0", "the address to serve at")
	flag.Parse()
	output := &out{}
	snapshots := cache.NewSnapshotCache(*ads, cache.IDHash{}, nil)
	xds := server.NewServer(context.Background(), snapshots, callbacks(output))
	grpcServer := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, xds)
	endpoint.RegisterEndpointDiscoveryServiceServer(grpcServer, xds)
	cluster.RegisterClusterDiscoveryServiceServer(grpcServer, xds)
	route.RegisterRouteDiscoveryServiceServer(grpcServer, xds)
	listener.RegisterListenerDiscoveryServiceServer(grpcServer, xds)
	secret.RegisterSecretDiscoveryServiceServer(grpcServer, xds)
	socket, err := net.Listen("tcp", *listen)
	if err != nil {
		panic(err)
	}
	go func() {
		if err := grpcServer.Serve(socket); err != nil {
			panic(err)
		}
	}()
	output.line(map[string]any{"event": "listening", "port": socket.Addr().(*net.TCPAddr).Port})
	p := &plane{cache: snapshots, node: *node, run: fmt.Sprint(os.Getpid())}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			output.line(map[string]any{"event": "error", "error": err.Error()})
			continue
		}
		if err := p.carryOut(c); err != nil {
			output.line(map[string]any{"event": "error", "error": err.Error()})
			continue
		}
		output.line(map[string]any{"event": "done", "op": c.Op, "version": fmt.Sprint(p.version.Load())})
	}
}
