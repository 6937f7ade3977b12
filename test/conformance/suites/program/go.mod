// The stricter program that followed: sha512, ranges, every returned location, exact headers.
module sepia.test/conformance/program

go 1.24.0

require github.com/opencontainers/distribution-spec/conformance v0.0.0-20260831232431-97274622c111
