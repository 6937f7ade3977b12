// Command estargz converts a layer as ctr-remote does: with the estargz package of stargz-snapshotter, on all cores.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"os"

	"github.com/containerd/stargz-snapshotter/estargz"
)

func main() {
	level := flag.Int("level", 9, "gzip level")
	in := flag.String("in", "", "layer: tar, gzip or zstd")
	out := flag.String("out", "", "file to write")
	flag.Parse()

	source, err := os.Open(*in)
	must(err)
	info, err := source.Stat()
	must(err)
	target, err := os.Create(*out)
	must(err)
	section := io.NewSectionReader(source, 0, info.Size())
	blob, err := estargz.Build(section, estargz.WithCompressionLevel(*level), estargz.WithChunkSize(4<<20))
	must(err)
	size, err := io.Copy(target, blob)
	must(err)
	must(target.Close())
	must(blob.Close())
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"sizeBytes": size, "tocDigest": blob.TOCDigest(), "diffId": blob.DiffID(),
	}))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
