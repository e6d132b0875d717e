// Reads keys back from one node, many at a time, and judges each answer.

import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiState

/// What is known of the writes of a load that has ended.
final class WriteRecord: Sendable {
    let table: AckTable
    let unknown: UnknownWrites
    let workload: Workload

    init(table: AckTable, unknown: UnknownWrites, workload: Workload) {
        self.table = table
        self.unknown = unknown
        self.workload = workload
    }

    /// What is wrong with finding `found` for key `number`; nil: nothing.
    func difference(key number: Int, found: VersionedValue?) -> String? {
        let last = table[number]
        let name = workload.name(ofKey: number)
        guard let found else {
            if last.version == 0 || last.stamp == AckTable.deleted { return nil }
            if unknown.contains(key: number, stamp: AckTable.deleted) { return nil }
            return "\(name) is gone; its write of version \(last.version) was acknowledged"
        }
        if found.version < last.version {
            return "\(name) has version \(found.version), but version \(last.version) was "
                + "acknowledged"
        }
        if found.version == last.version {
            if last.stamp != AckTable.deleted, found.value == workload.value(last.stamp) {
                return nil
            }
            return "\(name) has the right version, \(last.version), and another value than the one "
                + "that was written"
        }
        // Newer than anything acknowledged: a write whose outcome nobody was told.
        for stamp in unknown.candidates(key: number) where stamp != AckTable.deleted {
            if found.value == workload.value(stamp) { return nil }
        }
        return "\(name) has version \(found.version), past the last acknowledged "
            + "\(last.version), with a value that no client wrote"
    }
}

/// Reads a list of keys, a window of them at once.
final class ReadBack: ReplySink, @unchecked Sendable {
    // Safety: everything below `lock` is used with it held.
    private let target: RequestTarget
    private let written: WriteRecord
    private let keys: [(number: Int, key: Bytes)]
    private let lock = Mutex(())
    private var next = 0
    private var inFlight = 0
    /// Positions to be read again, elsewhere or later.
    private var refused: [Int] = []
    private var difference: String?
    private var waiter: CheckedContinuation<Void, Never>?

    private static let window = 1024

    init(target: RequestTarget, written: WriteRecord, keys: [(number: Int, key: Bytes)]) {
        self.target = target
        self.written = written
        self.keys = keys
    }

    /// Reads all keys; returns the first difference, and the keys whose reads were refused.
    func run() async -> (difference: String?, refused: [(number: Int, key: Bytes)]) {
        guard !keys.isEmpty else { return (nil, []) }
        await withCheckedContinuation { continuation in
            lock.withLock { _ in waiter = continuation }
            flush()
        }
        return lock.withLock { _ in (difference, refused.map { keys[$0] }) }
    }

    override func reply(_ reply: Reply, tag: UInt64) {
        let position = Int(tag)
        var wrong: String?
        var isRefused = false
        if case .value(let found) = reply {
            wrong = written.difference(key: keys[position].number, found: found)
        } else {
            isRefused = true
        }
        lock.withLock { _ in
            inFlight -= 1
            if let wrong, difference == nil { difference = wrong }
            if isRefused { refused.append(position) }
        }
    }

    override func flush() {
        var (requests, done): ([ClientRequest], CheckedContinuation<Void, Never>?) =
            lock.withLock { _ in
                var requests: [ClientRequest] = []
                while inFlight < ReadBack.window && next < keys.count && difference == nil {
                    requests.append(
                        ClientRequest(
                            operation: .get(.linearizable), key: keys[next].key, sink: self,
                            tag: UInt64(next)))
                    next += 1
                    inFlight += 1
                }
                guard inFlight == 0 else { return (requests, nil) }
                defer { waiter = nil }
                return (requests, waiter)
            }
        if !requests.isEmpty { target.submit(&requests) }
        done?.resume()
    }
}

/// Asks one question and waits for the reply.
final class OneAnswer: ReplySink, @unchecked Sendable {
    // Safety: set once before the request is handed over, used once by the one reply.
    private let waiter: CheckedContinuation<Reply, Never>

    private init(_ waiter: CheckedContinuation<Reply, Never>) { self.waiter = waiter }

    override func reply(_ reply: Reply, tag: UInt64) { waiter.resume(returning: reply) }

    /// What `target` answers.
    static func ask(
        _ operation: ClientOperation, key: Bytes, of target: RequestTarget
    ) async -> Reply {
        await withCheckedContinuation { continuation in
            var requests = [
                ClientRequest(
                    operation: operation, key: key, sink: OneAnswer(continuation), tag: 0)
            ]
            target.submit(&requests)
        }
    }
}
