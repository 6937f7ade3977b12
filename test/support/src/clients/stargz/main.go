// Command stargz is a stargz-snapshotter behind a unix socket: its own program is not to be had from the Go module proxy.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"net"
	"os"
	"os/signal"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/log"
	"github.com/containerd/stargz-snapshotter/service"
	"google.golang.org/grpc"
)

func main() {
	root := flag.String("root", "", "folder of snapshots and caches")
	address := flag.String("address", "", "unix socket to serve on")
	config := flag.String("config", "", "service.Config as JSON")
	flag.Parse()
	// It tells at this level which snapshots it serves itself.
	must(log.SetLevel("debug"))
	must(log.SetFormat(log.JSONFormat))

	var settings service.Config
	text, err := os.ReadFile(*config)
	must(err)
	must(json.Unmarshal(text, &settings))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	snapshotter, err := service.NewStargzSnapshotterService(ctx, *root, &settings)
	must(err)
	must(os.RemoveAll(*address))
	listener, err := net.Listen("unix", *address)
	must(err)
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	go func() { must(server.Serve(listener)) }()
	<-ctx.Done()
	server.Stop()
	must(snapshotter.Close())
}

func must(err error) {
	if err != nil {
		log.L.Fatal(err)
	}
}
