// `ukehi snapshot export`: a stopped node's state as files.

import ArgumentParser
import Ukehi
import UkehiBase
import UkehiState

extension SnapshotCommand {
    struct Export: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the state of a stopped node's regions to files.",
            discussion: """
                Each region goes to a file of its own, which has its name only when it is whole and \
                on the disk; a file that is there already is never replaced. The state is what the \
                node had flushed: all it had applied, if it was stopped cleanly. A node that runs \
                is refused. Only nodes with storage.state = "rocksdb" keep state on disk.

                The node's log and data are only read.

                EXAMPLES
                  ukehi snapshot export ./data --out-dir ./backup
                  ukehi snapshot export ./data --region 2 --out region.snapshot
                  ukehi snapshot export ./data --out-dir ./backup --json | jq .index
                """)

        @Argument(help: ArgumentHelp("The data directory of a stopped node.", valueName: "DIR"))
        var directory: String

        @Option(help: ArgumentHelp("The file for one region.", valueName: "FILE"))
        var out: String?

        @Option(
            help: ArgumentHelp(
                "A directory for all of them, each as region-N.snapshot.", valueName: "D"))
        var outDir: String?

        @Option(help: ArgumentHelp("This region alone.", valueName: "N"))
        var region: UInt64?

        @Flag(help: "JSON, one object per snapshot.") var json = false

        private var target: NodeExport.Target? {
            switch (out, outDir) {
            case (let file?, nil): .file(file)
            case (nil, let directory?): .directory(directory)
            default: nil
            }
        }

        func validate() throws {
            guard target != nil else {
                throw ValidationError("say where to: --out FILE for one region, or --out-dir D")
            }
        }

        func run() throws {
            guard let target else { return }
            let progress = ProgressLine("exporting")
            defer { progress.end() }
            var export = NodeExport(directory: directory)
            export.onProgress = { progress.show($0, of: nil) }
            try export.run(region: region.map { RegionID($0) }, to: target) { exported in
                progress.end()
                printLine(json ? object(of: exported).text : line(of: exported))
            }
        }
    }
}

private func line(of exported: NodeExport.Exported) -> String {
    let header = exported.header
    let behind = exported.lastIndex.rawValue - min(exported.lastIndex, header.index).rawValue
    return "\(exported.path)  region \(header.region.rawValue) at index \(header.index), "
        + "\(exported.footer.keys(besides: exported.state)) keys, "
        + sizeText(raw: exported.footer.rawBytes, stored: exported.fileBytes)
        + (behind > 0 ? "; the log goes on for \(behind) entries" : "")
}

private func object(of exported: NodeExport.Exported) -> JSONValue {
    .object(
        [("type", .string("snapshot")), ("path", .string(exported.path))]
            + fields(of: exported.header, exported.state) + [
                ("frames", number(exported.footer.frames)),
                ("keys", number(exported.footer.keys(besides: exported.state))),
                ("raw_bytes", number(exported.footer.rawBytes)),
                ("file_bytes", number(exported.fileBytes)),
                ("log_last_index", number(exported.lastIndex.rawValue)),
            ])
}
