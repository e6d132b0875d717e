// `ukehi wal cut`: the only command that gives up acknowledged records, and only when told so twice.

import ArgumentParser
import Ukehi
import UkehiPOSIX
import UkehiWAL

extension WALCommand {
    struct Cut: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give up a damaged log from the damage on; says what that loses first.",
            discussion: """
                For a node that is alone and that has no backup: one with peers gets back what it \
                lost from them. Without --lose it changes nothing, tells the loss and the command \
                that accepts it, and ends with 20 (0: the log is sound).

                All files that are changed or taken away are kept whole, beside the log, in \
                wal.cut-SEGMENT-OFFSET: to undo the cut, move them back before the node is started.

                EXAMPLES
                  ukehi wal cut ./data
                  ukehi wal cut ./data --lose 2:8237056
                """)

        @OptionGroup var log: LogOptions

        @Option(
            help: ArgumentHelp(
                "Lose all that stands from this place on; it must be where the damage is.",
                valueName: "SEGMENT:OFFSET"))
        var lose: String?

        func run() throws {
            do {
                try cut()
            } catch let error as WALError {
                throw Failure(error)
            } catch let error as NodeError {
                throw Failure(status: error.code.exitCode, message: error.message)
            }
        }

        private func cut() throws {
            if let reason = try NodeCut.refusal(directory: log.directory) {
                throw Failure(status: ExitStatus.failure, message: reason)
            }
            guard let cut = try LogCut.plan(POSIXFileSystem(), directory: log.directory) else {
                report("sound", [])
                if !log.json { printLine("The log is sound: there is nothing to cut.") }
                return
            }
            let place = "\(cut.place.segment):\(cut.place.offset)"
            guard lose == place else {
                report(
                    "damaged",
                    [
                        ("place", .string(place)), ("lost", object(of: cut.loss)),
                        ("lost_segments", .array(cut.segments.map { number($0) })),
                    ])
                if !log.json {
                    printLine(cut.problem.message + " (\(cut.place))")
                    printLine("A cut there would lose:")
                    for line in lines(of: cut.loss) { printLine(line) }
                    if let first = cut.segments.first, let last = cut.segments.last {
                        printLine("  and all that is in segments \(first) to \(last)")
                    }
                }
                let asked = lose.map { "the damage is at \(place), not at \($0); " } ?? ""
                throw Failure(
                    status: ExitStatus.corruption,
                    message: "\(asked)nothing was changed. To lose it for good: ukehi wal cut "
                        + "\(log.directory) --lose \(place)")
            }
            let kept = keptDirectory(cut.place)
            let ahead = try NodeCut.apply(cut, directory: log.directory, keeping: kept)
            let left = try LogCut.plan(POSIXFileSystem(), directory: log.directory)
            report(
                "cut",
                [
                    ("place", .string(place)), ("lost", object(of: cut.loss)),
                    ("kept", .string(kept)), ("sound", .bool(left == nil)),
                ])
            if !log.json {
                printLine("The log was cut at \(cut.place); what it lost is kept in \(kept).")
                for state in ahead {
                    printLine("  \(state.region) goes on behind \(state.applied), from its state")
                }
            }
            guard let left else { return }
            throw Failure(
                status: ExitStatus.corruption,
                message: "there is more damage, before the cut: \(left.problem.message)")
        }

        private func report(_ outcome: String, _ fields: [(String, JSONValue)]) {
            guard log.json else { return }
            printLine(JSONValue.object([("outcome", .string(outcome))] + fields).text)
        }

        /// Beside the log, since nothing but the log's own files may be in its directory.
        private func keptDirectory(_ place: LogPosition) -> String {
            let path = WALInspector(fileSystem: POSIXFileSystem(), directory: log.directory)
                .directory
            return "\(path).cut-\(place.segment)-\(place.offset)"
        }
    }
}
