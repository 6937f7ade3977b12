// Command unpack applies layers as containerd's overlayfs snapshotter does. It reads lines "tar, folder, folders below with
// colons between, the nearest first", with tabs between, and answers each with "ok" or "error" and why.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/log"
)

func main() {
	if err := log.SetLevel("panic"); err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if err := unpack(fields[0], fields[1], fields[2]); err != nil {
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
}

func unpack(tar, folder, below string) error {
	var options []archive.ApplyOpt
	// The lowest layer has no overlay: its whiteouts take away what it has itself.
	if below != "" {
		options = append(options,
			archive.WithConvertWhiteout(archive.OverlayConvertWhiteout),
			archive.WithParents(strings.Split(below, ":")))
	}
	file, err := os.Open(tar)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = archive.Apply(context.Background(), folder, file, options...)
	return err
}
