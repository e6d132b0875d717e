// `ukehi snapshot import`: what export wrote becomes a node again.

import ArgumentParser
import Synchronization
import Ukehi
import UkehiBase
import UkehiState

extension SnapshotCommand {
    struct Import: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a new node's data directory from the snapshots of a whole node.",
            discussion: """
                Every .snapshot of the directory is one region; together they must be all keys of one \
                cluster, each once, or with --fill-missing some of them. They become a new cluster of one node, under a new cluster id, \
                with the regions as they were at the snapshots' indexes. Give the same configuration \
                as `ukehi serve` will have: its name and address become part of the cluster.

                All bytes are checked. If anything is wrong nothing is left behind; the backup is only \
                read.

                EXAMPLES
                  ukehi snapshot import ./backup --data-dir ./data
                  ukehi snapshot import ./backup --config node.toml
                  ukehi snapshot import ./one-region --fill-missing --data-dir ./look
                """)

        @Argument(
            help: ArgumentHelp("Where `ukehi snapshot export --out-dir` wrote.", valueName: "DIR"))
        var backup: String

        @Option(
            help: ArgumentHelp(
                "The data directory to make; the same as --cluster-data-dir.", valueName: "DIR"))
        var dataDir: String?

        @Flag(help: "Keys of which no file is there begin empty; otherwise that is an error.")
        var fillMissing = false

        @OptionGroup var settings: ConfigurationFlags

        @Flag(help: "JSON, one object per region, then one of all.") var json = false

        func run() throws {
            var flags = settings.overrides
            if let dataDir { flags["cluster.data_dir"] = dataDir }
            let configuration = try Configuration.load(
                file: settings.config, environment: processEnvironment(), flags: flags)
            let directory = configuration.cluster.dataDirectory
            let progress = ProgressLine("importing")
            defer { progress.end() }
            let isCancelled = Cancellation()
            let interruption = Interruption { _ in isCancelled.set() }
            defer { _ = interruption }
            var work = NodeImport(backup: backup, configuration: configuration)
            work.onProgress = { progress.show($0, of: $1) }
            work.isCancelled = { isCancelled.isSet }
            work.fillsMissing = fillMissing
            var (keys, bytes, regions) = (0 as UInt64, 0 as UInt64, 0)
            let (cluster, empty) = try work.run { imported in
                keys += imported.keys
                bytes += imported.rawBytes
                regions += 1
                progress.end()
                printLine(json ? object(of: imported).text : line(of: imported))
            }
            progress.end()
            if json {
                printLine(
                    JSONValue.object([
                        ("type", .string("import")), ("cluster", .string("\(cluster)")),
                        ("node", .string(configuration.cluster.nodeID)),
                        ("directory", .string(directory)), ("regions", .int(regions)),
                        ("empty_regions", .int(empty)), ("keys", number(keys)),
                        ("raw_bytes", number(bytes)),
                    ]).text)
            } else {
                printLine(
                    "\(directory) is node \(configuration.cluster.nodeID) of the new cluster "
                        + "\(cluster): \(regions) regions, \(keys) keys, \(byteText(bytes))"
                        + (empty == 0 ? "" : "; \(empty) regions more begin empty"))
            }
        }
    }
}

/// Told by a signal, asked by the work.
private final class Cancellation: Sendable {
    private let flag = Atomic<Bool>(false)
    func set() { flag.store(true, ordering: .relaxed) }
    var isSet: Bool { flag.load(ordering: .relaxed) }
}

private func line(of imported: NodeImport.Imported) -> String {
    "\(imported.path)  region \(imported.header.region.rawValue) at index "
        + "\(imported.header.index), \(imported.keys) keys, \(byteText(imported.rawBytes))"
}

private func object(of imported: NodeImport.Imported) -> JSONValue {
    .object(
        [("type", .string("snapshot")), ("path", .string(imported.path))]
            + fields(of: imported.header, imported.state) + [
                ("keys", number(imported.keys)), ("raw_bytes", number(imported.rawBytes)),
            ])
}
