// Clients as most programs are written: one Swift task each, awaiting the node's async API.
//
// Beside the callback clients they pay for a continuation, two task switches and the API's own
// routing per operation. Everything else, from keys to verification, is the same.

import Synchronization
import Ukehi
import UkehiBase
import UkehiNode
import UkehiState

/// The tasks that call one node.
final class AsyncClients: LoadClients, @unchecked Sendable {
    // Safety: everything below `lock` is used with it held.
    let target: RequestTarget
    private let node: Node
    private let workload: Workload
    private let clients: Range<Int>
    private let seed: UInt64
    private let lock = Mutex(())
    private var tally: ClientTally
    private var owned: OwnedKeys?
    private var isStopping = false
    private var running = 0
    /// Keys, or lines, that the load or the preload has passed.
    private var passed = 0
    private var ackLog: AckLog?

    init(
        node: Node, workload: Workload, clients: Range<Int>, seed: UInt64, ackLog: ChunkWriter?
    ) {
        target = NodeTarget(node.core)
        self.node = node
        self.workload = workload
        self.clients = clients
        self.seed = seed
        tally = ClientTally(keyCount: workload.keyCount)
        if let ackLog { self.ackLog = AckLog(writer: ackLog) }
    }

    func use(_ owned: OwnedKeys) { lock.withLock { _ in self.owned = owned } }
    /// The node's API routes by itself; the first view decides which keys the tasks use.
    var needsTopology: Bool { lock.withLock { _ in owned == nil } }
    func tick() {}
    func pace(_ operationsPerSecond: Double) {
        invariant(false, "tasks are a closed loop: settings refuse a rate for them")
    }
    func stop() { lock.withLock { _ in isStopping = true } }
    var waiting: Int { lock.withLock { _ in running } }
    /// The node's API finds a leader or fails the operation.
    var starved: (clients: Int, longest: UInt64) { (0, 0) }
    func withTally<R>(_ body: (inout ClientTally) -> R) -> R { lock.withLock { _ in body(&tally) } }
    func closeLogs() { lock.withLock { _ in ackLog?.flush(now: 0, always: true) } }

    func start(preloading: Bool) {
        lock.withLock { _ in
            running += clients.count
            passed = 0
        }
        for client in clients {
            Task { await self.run(client: client, preloading: preloading) }
        }
    }

    private struct Operation {
        var kind: OperationKind
        var number: Int
        var stamp: UInt64
        var key: Bytes
        /// The version acknowledged for the key before a read began.
        var floor: UInt64 = 0
    }

    private func run(client: Int, preloading: Bool) async {
        var random = BenchRandom(seed: seed &+ UInt64(client))
        var sequence: UInt64 = preloading ? 0 : 1 << 39  // Stamps of both parts differ.
        while true {
            sequence &+= 1
            let operation = lock.withLock { _ in
                next(client, sequence, &random, preloading: preloading)
            }
            guard let operation else { break }
            let start = BenchClock.now()
            do throws(RequestError) {
                if operation.kind == .get {
                    let found = try await node.get(operation.key, mode: workload.readMode)
                    finishRead(operation, found, start)
                } else {
                    let value = workload.value(operation.stamp)
                    let version = try await node.put(operation.key, value)
                    finishWrite(operation, version, value, start)
                }
            } catch {
                note(error, operation, start)
                // A refusal came at once: the next try must not come at once, too.
                try? await Task.sleep(for: .milliseconds(5))
            }
        }
        lock.withLock { _ in running -= 1 }
    }

    /// Draws an operation; nil: the task is done. With the lock held.
    private func next(
        _ client: Int, _ sequence: UInt64, _ random: inout BenchRandom, preloading: Bool
    ) -> Operation? {
        guard let owned, !isStopping, !owned.isEmpty else { return nil }
        let kind = preloading ? .put : workload.mix.kind(random.next())
        switch workload.source {
        case .generated(let keys, _):
            var number: Int?
            if preloading {
                while number == nil, passed < Int(keys.count) {
                    if owned.contains(generated: UInt64(passed)) { number = passed }
                    passed += 1
                }
            } else {
                number = owned.draw(&random)
            }
            guard let number else { return nil }
            return Operation(
                kind: kind, number: number,
                stamp: Workload.stamp(client: client, sequence: sequence),
                key: keys.key(UInt64(number)), floor: tally.table[number].version)
        case .input(let input):
            while !preloading || passed < input.records.count {
                let position = passed % input.records.count
                passed += 1
                guard owned.contains(record: position) else { continue }
                let record = input.records[position]
                return Operation(
                    kind: kind, number: record.keyNumber, stamp: UInt64(position),
                    key: record.key, floor: tally.table[record.keyNumber].version)
            }
            return nil
        }
    }

    private func finishWrite(
        _ operation: Operation, _ version: UInt64, _ value: Bytes, _ start: UInt64
    ) {
        let now = BenchClock.now()
        lock.withLock { _ in
            tally.writes.record(now - start)
            tally.table.acknowledge(
                key: operation.number, version: version, stamp: operation.stamp)
            guard ackLog != nil else { return }
            operation.key.withUnsafeBytes { key in
                value.withUnsafeBytes { value in
                    ackLog?.note(at: now, operation: operation.stamp, key: key, value: value)
                }
            }
            ackLog?.flush(now: now)
        }
    }

    private func finishRead(_ operation: Operation, _ found: VersionedValue?, _ start: UInt64) {
        let now = BenchClock.now()
        let seen = found?.version ?? 0
        lock.withLock { _ in
            tally.reads.record(now - start)
            if workload.readMode != .stale && seen < operation.floor {
                tally.note(
                    violation: "a read of \(workload.name(ofKey: operation.number)) saw version "
                        + "\(seen), but version \(operation.floor) was acknowledged before it began"
                )
            }
        }
    }

    private func note(_ error: RequestError, _ operation: Operation, _ start: UInt64) {
        lock.withLock { _ in
            switch error {
            case .outcomeUnknown:
                tally.unknownOutcomes &+= 1
                if operation.kind != .get {
                    tally.unknown.note(key: operation.number, stamp: operation.stamp)
                }
            case .rejected(.invalid(let text)):
                tally.note(violation: "a request was called invalid: \(text)")
            case .rejected:
                tally.retries &+= 1
            }
        }
    }
}
