// swift-tools-version: 6.3
import PackageDescription

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let rocksDB: Target.Dependency = .target(
    name: "UkehiRocksDB", condition: .when(traits: ["RocksDB"]))

let package = Package(
    name: "ukehi",
    products: [
        .library(name: "Ukehi", targets: ["Ukehi"]),
        .library(name: "UkehiRaft", targets: ["UkehiRaft", "UkehiBase"]),
        .library(name: "UkehiSimulation", targets: ["UkehiSimulation"]),
        .executable(name: "ukehi", targets: ["UkehiCommand"]),
    ],
    traits: [
        .trait(name: "RocksDB", description: "The state store on RocksDB (needs librocksdb)."),
        .trait(
            name: "BugBank",
            description: "Known bugs for the simulator to find (ukehi bug-bank); never for use."),
        .default(enabledTraits: ["RocksDB"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // C libraries.
        .systemLibrary(name: "CISAL", pkgConfig: "libisal", providers: [.apt(["libisal-dev"])]),
        .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(
            name: "CRocksDB", pkgConfig: "rocksdb", providers: [.apt(["librocksdb-dev"])]),

        // Ids, bytes, checksums; what the world offers, as protocols.
        .target(name: "UkehiBase", dependencies: ["CISAL"], swiftSettings: strict),
        .target(name: "UkehiEnvironment", dependencies: ["UkehiBase"], swiftSettings: strict),

        // Pure consensus; the shared log; state machines and their stores.
        .target(name: "UkehiRaft", dependencies: ["UkehiBase"], swiftSettings: strict),
        .target(
            name: "UkehiWAL", dependencies: ["UkehiBase", "UkehiEnvironment", "CLZ4"],
            swiftSettings: strict),
        .target(
            name: "UkehiState", dependencies: ["UkehiBase", "UkehiEnvironment", "CZstd"],
            swiftSettings: strict),
        .target(
            name: "UkehiRocksDB", dependencies: ["UkehiBase", "UkehiState", "CRocksDB"],
            swiftSettings: strict),

        // The multi-Raft runtime and its edges.
        .target(
            name: "UkehiNode",
            dependencies: [
                "UkehiBase", "UkehiEnvironment", "UkehiRaft", "UkehiWAL", "UkehiState", logging,
                deque,
            ],
            swiftSettings: strict),
        .target(
            name: "UkehiPOSIX", dependencies: ["UkehiBase", "UkehiEnvironment"],
            swiftSettings: strict),
        .target(
            name: "UkehiTransport",
            dependencies: [
                "UkehiBase", "UkehiEnvironment", "UkehiRaft", "UkehiState", "UkehiNode", logging,
                nioCore, nioPosix,
            ],
            swiftSettings: strict),

        // Whole clusters in one process, from one seed.
        .target(
            name: "UkehiSimulation",
            dependencies: [
                "UkehiBase", "UkehiEnvironment", "UkehiRaft", "UkehiWAL", "UkehiState",
                "UkehiNode", logging,
            ],
            swiftSettings: strict),

        // What embedders import, and the command line.
        .target(
            name: "Ukehi",
            dependencies: [
                "UkehiBase", "UkehiEnvironment", "UkehiRaft", "UkehiWAL", "UkehiState",
                "UkehiNode", "UkehiPOSIX", "UkehiTransport", rocksDB, logging, nioCore, nioPosix,
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "UkehiCommand",
            dependencies: [
                "Ukehi", "UkehiBase", "UkehiEnvironment", "UkehiNode", "UkehiPOSIX", "UkehiState",
                "UkehiTransport", "UkehiWAL", "UkehiSimulation", logging, nioCore, nioPosix,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            path: "Sources/ukehi", swiftSettings: strict),

        // Tests, one target a module.
        .target(
            name: "_UkehiTestSupport", dependencies: ["UkehiEnvironment"],
            path: "Tests/_UkehiTestSupport", swiftSettings: strict),
        .target(name: "_CAllocationCounter", path: "Tests/_CAllocationCounter"),
        .testTarget(name: "UkehiBaseTests", dependencies: ["UkehiBase"], swiftSettings: strict),
        .testTarget(
            name: "UkehiRaftTests",
            dependencies: ["UkehiRaft", "UkehiBase", "_CAllocationCounter"],
            exclude: ["Scenarios"], swiftSettings: strict),
        .testTarget(
            name: "EtcdRaftConformanceTests", dependencies: ["UkehiRaft", "UkehiBase"],
            swiftSettings: strict),
        .testTarget(
            name: "UkehiWALTests",
            dependencies: [
                "UkehiWAL", "UkehiPOSIX", "UkehiBase", "UkehiEnvironment", "UkehiSimulation",
                "_UkehiTestSupport", "_CAllocationCounter",
            ],
            exclude: ["Corpus"], swiftSettings: strict),
        .testTarget(
            name: "UkehiPOSIXTests",
            dependencies: [
                "UkehiPOSIX", "UkehiBase", "UkehiEnvironment", "UkehiSimulation",
                "_UkehiTestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "UkehiStateTests",
            dependencies: [
                "UkehiState", "UkehiPOSIX", "UkehiBase", "UkehiEnvironment", "_UkehiTestSupport",
            ],
            exclude: ["Corpus"], swiftSettings: strict),
        .testTarget(
            name: "UkehiRocksDBTests",
            dependencies: ["UkehiState", "UkehiBase", "UkehiEnvironment", rocksDB],
            swiftSettings: strict),
        .testTarget(
            name: "UkehiNodeTests",
            dependencies: [
                "UkehiNode", "UkehiRaft", "UkehiWAL", "UkehiState", "UkehiBase",
                "UkehiEnvironment", "UkehiSimulation", logging,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "UkehiSimulationTests",
            dependencies: [
                "UkehiSimulation", "UkehiNode", "UkehiRaft", "UkehiState", "UkehiWAL", "UkehiBase",
                "UkehiEnvironment",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "UkehiTransportTests",
            dependencies: [
                "UkehiTransport", "UkehiNode", "UkehiRaft", "UkehiState", "UkehiBase",
                "UkehiEnvironment", "_UkehiTestSupport", logging, nioCore, nioPosix, nioEmbedded,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "UkehiTests",
            // The executable, so that the process tests have it to start.
            dependencies: [
                "Ukehi", "UkehiBase", "UkehiEnvironment", "UkehiNode", "UkehiPOSIX", "UkehiState",
                "UkehiWAL", "UkehiCommand", "_UkehiTestSupport", logging,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "UkehiBenchTests",
            dependencies: [
                "Ukehi", "UkehiCommand", "UkehiBase", "UkehiNode", "UkehiState",
                "_UkehiTestSupport",
            ],
            swiftSettings: strict),
        .testTarget(name: "HouseRulesTests", swiftSettings: strict),
    ]
)
