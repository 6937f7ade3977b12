// The four workflow categories, a Ginkgo test binary. The last version that the module proxy has of it.
module sepia.test/conformance/workflows

go 1.24

require github.com/opencontainers/distribution-spec/conformance v0.0.0-20231101194043-f2182352d4cc
