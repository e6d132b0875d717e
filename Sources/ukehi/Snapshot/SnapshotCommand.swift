// `ukehi snapshot`: regions as files.

import ArgumentParser
import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiState

struct SnapshotCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot",
        abstract:
            "Back up a stopped node's regions as files, make a node of them, look at such files; and watch snapshots on their way between nodes.",
        discussion: """
              ukehi snapshot export ./data --out-dir ./backup
              ukehi snapshot export ./data --region 2 --out region.snapshot
              ukehi snapshot import ./backup --data-dir ./data
              ukehi snapshot inspect region.snapshot
              ukehi snapshot verify region.snapshot
              ukehi snapshot transfers --endpoint 127.0.0.1:7878

            A snapshot is one region's state at one index of its log. Keys and values are never
            shown. The bytes are described in docs/FORMATS.md.
            """,
        subcommands: [
            Export.self, Import.self, Inspect.self, Verify.self, Transfers.self,
        ])
}

/// What the commands that read a snapshot take.
struct SnapshotOptionGroup: ParsableArguments {
    @Argument(help: ArgumentHelp("A snapshot file.", valueName: "FILE"))
    var path: String

    @Flag(help: "JSON, one object per line.") var json = false

    /// Runs `body` on the open file.
    func withFile<R>(_ body: (any File) throws -> R) throws -> R {
        let file: any File
        do throws(FileError) {
            file = try POSIXFileSystem().open(path, .read)
        } catch {
            throw SnapshotError(error, doing: "\(path) was not opened")
        }
        defer { file.close() }
        return try body(file)
    }
}

extension Failure {
    /// A snapshot's error with its place and exit code.
    init(_ error: SnapshotError) {
        let status: Int32 =
            switch error.code {
            case .damaged, .truncated, .refused: ExitStatus.corruption
            case .newerFormat: ExitStatus.identity
            case .ioFailed: ExitStatus.ioFailed
            case .diskFull: ExitStatus.diskFull
            case .notFound, .exists, .unfit: ExitStatus.usage
            case .cancelled: ExitStatus.interrupted
            }
        self.init(status: status, message: error.description)
    }
}

/// Ends the command if there is a problem; in JSON it was told already.
func fail(_ problem: SnapshotError?, saidInJSON: Bool) throws {
    guard let problem else { return }
    var failure = Failure(problem)
    if saidInJSON { failure.message = "" }
    throw failure
}
