// swift-tools-version: 6.3
// A package of its own, so that nobody who embeds the engine resolves the benchmark library.
import PackageDescription

let package = Package(
    name: "ukehi-benchmarks",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "ukehi", path: "..", traits: []),
        // Without traits: no jemalloc. Allocations are counted by AllocationTests instead.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
    ],
    targets: [
        .executableTarget(
            name: "RaftBenchmarks",
            dependencies: [
                .product(name: "Benchmark", package: "benchmark"),
                .product(name: "UkehiRaft", package: "ukehi"),
            ],
            path: "Benchmarks/RaftBenchmarks",
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
    ]
)
