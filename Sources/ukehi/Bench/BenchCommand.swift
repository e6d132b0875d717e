// `ukehi bench`: a cluster by default, or a part of it by itself.

import ArgumentParser

/// The benchmarks; without a name the cluster's runs.
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract:
            "Measure a cluster, its log, failovers, snapshots, moves or splits here, and verify it.",
        subcommands: [
            ClusterBench.self, LogBench.self, FailoverBench.self, SnapshotBench.self,
            MoveBench.self, RegionsBench.self, SplitsBench.self,
        ],
        defaultSubcommand: ClusterBench.self)

    /// Whether `arguments` ask for help on `ukehi bench` alone: then the default's is what is meant.
    static func asksForHelp(_ arguments: [String]) -> Bool {
        ["bench", "--help"] == arguments || ["bench", "-h"] == arguments
            || ["help", "bench"] == arguments
    }
}
