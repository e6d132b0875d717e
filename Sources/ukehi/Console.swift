// Where the command writes, and how it ends.

import ArgumentParser
import Synchronization
import Ukehi
import UkehiBase
import UkehiNode
import UkehiState
import UkehiWAL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Exit codes of the command; docs/OPERATING.md has the table.
enum ExitStatus {
    static let failure: Int32 = 1
    static let corruption: Int32 = 20
    static let ioFailed: Int32 = 21
    static let diskFull: Int32 = 22
    static let identity: Int32 = 24
    static let usage: Int32 = 64
    static let unavailable: Int32 = 69
    static let configuration: Int32 = 78
    /// As a shell has it for SIGINT.
    static let interrupted: Int32 = 130
}

/// Lines for standard output, written in large pieces.
private let pending = Mutex<[UInt8]>([])

/// Writes a line to standard output; shown at the latest when the command ends.
func printLine(_ line: String) {
    let isFull = pending.withLock { bytes in
        bytes += line.utf8
        bytes.append(UInt8(ascii: "\n"))
        return bytes.count >= 32 << 10
    }
    if isFull { flushOutput() }
}

/// Writes bytes to standard output as they are.
func printRaw(_ bytes: Bytes) { pending.withLock { $0 += bytes.array } }

/// Shows what was printed so far. A reader that went away (`| head`) ends the command quietly.
func flushOutput() {
    let bytes = pending.withLock { bytes in
        defer { bytes = [] }
        return bytes
    }
    if !writeAll(bytes, to: STDOUT_FILENO) { exit(ExitStatus.failure) }
}

/// Writes a line to standard error, behind what was printed before.
func printError(_ line: String) {
    flushOutput()
    _ = writeAll(Array(line.utf8) + [UInt8(ascii: "\n")], to: STDERR_FILENO)
}

/// Writes to standard error without ending the line.
func printUnended(_ text: String) { _ = writeAll(Array(text.utf8), to: STDERR_FILENO) }

/// Whether a person watches what goes to standard error.
let isErrorWatched = isatty(STDERR_FILENO) == 1

private func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return false }
        rest = rest.dropFirst(count)
    }
    return true
}

/// Everything that standard input holds, up to `limit` bytes.
func readInput(limit: Int) -> Bytes {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count < limit {
        let count = read(STDIN_FILENO, &buffer, min(buffer.count, limit - bytes.count))
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { break }
        bytes += buffer[..<count]
    }
    return Bytes(bytes)
}

/// What a thrown error means to an operator: the text, and the exit code that goes with it.
struct Failure: Error {
    var status: Int32
    var message: String

    init(status: Int32, message: String) {
        self.status = status
        self.message = message
    }

    /// The known errors of the engine; nil for those of argument parsing.
    init?(_ error: any Error) {
        switch error {
        case let error as Failure: self = error
        case let error as ConfigurationError:
            self.init(status: ExitStatus.configuration, message: error.description)
        case let error as NodeError:
            self.init(status: error.code.exitCode, message: error.message)
        case let error as WALError: self = Failure(error)
        case let error as SnapshotError: self = Failure(error)
        case let error as RequestError:
            self.init(
                status: error.isUnavailable ? ExitStatus.unavailable : ExitStatus.failure,
                message: error.advice)
        default: return nil
        }
    }
}

extension RequestError {
    /// Whether nobody could be asked, as opposed to somebody having refused.
    fileprivate var isUnavailable: Bool {
        switch self {
        case .rejected(.unavailable), .rejected(.notLeader), .rejected(.timedOut): true
        case .rejected(.notSplit(let reason)): reason.passes
        default: false
        }
    }

    /// What happened and what to do, in a sentence each.
    fileprivate var advice: String {
        switch self {
        case .outcomeUnknown:
            "It is not known whether the command was carried out: read before repeating it."
        case .rejected(.notLeader):
            "Nothing was done: the region has no leader that can be reached. Are most nodes up?"
        case .rejected(.staleEpoch): "Nothing was done: the regions changed meanwhile. Try again."
        case .rejected(.overloaded): "Nothing was done: the node is overloaded. Try again later."
        case .rejected(.unavailable(let reason)): "Nothing was done. \(reason)"
        case .rejected(.invalid(let reason)): "Nothing was done. \(reason)"
        case .rejected(.timedOut): "Nothing was done in time. Raise --timeout or look at the nodes."
        case .rejected(.diskFull):
            "Nothing was written: the leader's log volume is full. Deletes and reads go on."
        case .rejected(.sessionExpired):
            "Nothing was done: the session has expired. Open another one."
        case .rejected(.notSplit(let reason)): "Nothing was done. \(reason)"
        }
    }
}
