// Hot path. Clients that live on a node's lane: a reply makes the next request.
//
//   lane's pass ── reply(tag) × n ──> note latency, acknowledge, slot is free
//               ── flush() ────────> draw, encode and submit the next operation of each free slot
//
// A client is a slot: a few words, no task, no closure, no allocation per operation. Keys and command
// records are slices of a shared chunk of 256 KiB. Each client has one operation at a time and wants
// the next one the moment it is answered, so latency is measured from there: refusals and retries
// count. A closed loop offers less load when answers are late; what it cannot see is the waiting
// of callers that would have come meanwhile. Hence the number of clients is part of every figure. With a
// rate it is an open loop: an operation comes when it comes, and waits for a client (OfferedRate.swift).
//
// Replies come on the lane's thread, refusals on the submitter's: one uncontended lock per reply and
// per flush. Requests are handed over outside it, since a refusal calls back at once.

import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiState

/// The clients of one target.
final class ClientLane: ReplySink, LoadClients, @unchecked Sendable {
    // Safety: everything below `lock` is used with it held.
    let target: RequestTarget
    let workload: Workload
    /// Clients on this lane.
    let slotCount: Int
    private let firstClient: Int
    private let checksReads: Bool

    private let lock = Mutex(())
    private var tally: ClientTally
    private let slots: UnsafeMutablePointer<ClientSlot>
    private var memory: [SlotMemory] = []
    private var owned: OwnedKeys?
    private var isViewOld = true
    private var isStopping = false
    private var isPreloading = false
    /// Keys, or lines, that a preload has passed.
    private var preloaded = 0
    /// This lane's share of a preload, where all lanes may use all keys: every so many-th key from a first on.
    private let part: (first: Int, of: Int)
    /// Slots whose reply came since the last flush.
    private let free: UnsafeMutablePointer<Int32>
    private var freeCount = 0
    /// Acknowledgements since the last flush, for the table.
    private let acks: UnsafeMutablePointer<Acknowledgement>
    private var ackCount = 0
    /// Slots that were refused and wait for the next tick.
    private var parked: [Int32] = []
    /// In an open loop: what comes when, and slots that wait for it.
    private var schedule: ArrivalSchedule?
    private var idle: [Int32] = []
    private var spare: [ClientRequest] = []
    private var outstanding = 0
    private var random: BenchRandom
    private var records: ByteWriter
    private let scratch: UnsafeMutableRawPointer
    private var nextRecord = 0
    private var clockReading: UInt64 = 0
    private var clockUses = 0
    private var ackLog: AckLog?
    private var history: HistoryLog?
    private var nextProcess: Int

    private struct Acknowledgement {
        var key: Int
        var version: UInt64
        var stamp: UInt64
    }

    /// Files the lane writes to, if asked.
    struct Logs {
        var acks: ChunkWriter?
        var history: ChunkWriter?
    }

    /// - Parameters:
    ///   - clients: Numbers of this lane's clients, unique over all lanes.
    ///   - part: Which of the keys that it may use it preloads: all, unless other lanes may use them, too.
    init(
        target: RequestTarget, workload: Workload, clients: Range<Int>, totalClients: Int,
        seed: UInt64, logs: Logs, part: (first: Int, of: Int) = (0, 1)
    ) {
        self.part = part
        self.target = target
        self.workload = workload
        slotCount = clients.count
        firstClient = clients.lowerBound
        checksReads = workload.readMode != .stale && workload.mix.reads
        tally = ClientTally(keyCount: workload.keyCount)
        slots = .allocate(capacity: max(clients.count, 1))
        slots.initialize(repeating: ClientSlot(), count: max(clients.count, 1))
        free = .allocate(capacity: max(clients.count, 1))
        acks = .allocate(capacity: max(clients.count, 1))
        random = BenchRandom(seed: seed &+ UInt64(clients.lowerBound))
        records = ByteWriter(chunkCapacity: 256 << 10)
        scratch = .allocate(
            byteCount: workload.maxKeyBytes + workload.maxValueBytes + 16, alignment: 16)
        if let writer = logs.acks { ackLog = AckLog(writer: writer) }
        if let writer = logs.history { history = HistoryLog(writer: writer) }
        nextProcess = totalClients + clients.lowerBound
        processStep = totalClients
        super.init()
        if logs.history != nil || !workload.mix.isPlain {
            memory = clients.map { SlotMemory(process: $0) }
        }
    }
    private let processStep: Int

    deinit {
        slots.deallocate()
        free.deallocate()
        acks.deallocate()
        scratch.deallocate()
    }

    // MARK: The driver's calls

    /// Uses a fresh view of the topology.
    func use(_ owned: OwnedKeys) {
        lock.withLock { _ in
            self.owned = owned
            isViewOld = false
        }
    }

    /// Whether a reply showed that the view of the topology is old.
    var needsTopology: Bool { lock.withLock { _ in isViewOld } }

    /// Makes every client want its first operation; to preload: each key of the node is put once,
    /// then the clients rest.
    func start(preloading: Bool) {
        lock.withLock { _ in
            isPreloading = preloading
            preloaded = part.first
            for slot in 0..<slotCount { parked.append(Int32(slot)) }
            outstanding += slotCount
        }
        tick()
    }

    /// An open loop from now on.
    func pace(_ operationsPerSecond: Double) {
        lock.withLock { _ in
            schedule = ArrivalSchedule(
                operationsPerSecond: operationsPerSecond, from: BenchClock.now())
        }
    }

    /// Lets refused clients try again, and those that wait for an operation look for one.
    func tick() {
        lock.withLock { _ in
            for slot in parked { release(Int(slot)) }
            parked.removeAll(keepingCapacity: true)
            guard let schedule, !idle.isEmpty else { return }
            let due = isStopping ? idle.count : min(idle.count, schedule.due(BenchClock.now()))
            for slot in idle.suffix(due) { release(Int(slot)) }
            idle.removeLast(due)
        }
        flush()
    }

    /// From now on no client wants another operation.
    func stop() { lock.withLock { _ in isStopping = true } }

    /// Clients that wait for a reply.
    var waiting: Int { lock.withLock { _ in outstanding } }

    var starved: (clients: Int, longest: UInt64) {
        lock.withLock { _ in
            let now = BenchClock.now()
            // A refusal is tried again at the next tick; what has waited for many ticks starves.
            let waits = parked.map { slots[Int($0)].intended }.filter { $0 > 0 }
                .map { now &- $0 }.filter { $0 > 100_000_000 }
            return (waits.count, waits.max() ?? 0)
        }
    }

    /// Runs `body` on the findings.
    func withTally<R>(_ body: (inout ClientTally) -> R) -> R { lock.withLock { _ in body(&tally) } }

    /// Ends the files: what never was answered is written as unknown.
    func closeLogs() {
        lock.withLock { _ in
            ackLog?.flush(now: 0, always: true)
            history?.flush()
        }
    }

    // MARK: Replies

    override func reply(_ reply: Reply, tag: UInt64) {
        lock.withLock { _ in
            let index = Int(truncatingIfNeeded: tag)
            let now = readClock()
            switch reply {
            case .command(.applied(let version)): acknowledge(index, version, now)
            case .value(let found): finishRead(index, found, now)
            case .command(.conditionFailed):
                tally.failedConditions &+= 1
                if !memory.isEmpty {
                    noteHistory(index, output: nil, isOK: false, returned: now)
                }
                if slots[index].step == .write {
                    // Somebody was quicker: from the beginning.
                    slots[index].step = .read
                    return release(index)
                }
                finish(index, tally.writes, now)
            case .command(.counter), .command(.response): acknowledge(index, 0, now)
            case .command(.staleEpoch): refuse(index, needsTopology: true)
            case .command(.sessionExpired):
                tally.note(violation: "a command without a session was told that it has expired")
                finish(index, tally.writes, now)
            case .command(.invalid(let error)):
                tally.note(violation: "a command was called invalid: \(error)")
                finish(index, tally.writes, now)
            case .failed(.outcomeUnknown): loseOutcome(index, now)
            case .failed(.rejected(let reason)):
                switch reason {
                case .invalid(let text):
                    tally.note(violation: "a request was called invalid: \(text)")
                    refuse(index, needsTopology: false)
                case .notSplit(let reason):
                    tally.note(violation: "a request was answered with \(reason)")
                    refuse(index, needsTopology: false)
                case .notLeader, .staleEpoch: refuse(index, needsTopology: true)
                case .overloaded, .timedOut, .diskFull, .sessionExpired:
                    refuse(index, needsTopology: false)
                case .unavailable: refuse(index, needsTopology: true)
                }
            case .scan, .query, .topology, .digest, .members, .regions, .transfers, .loads,
                .recovery:
                tally.note(violation: "a reply of another kind than asked came")
                finish(index, tally.reads, now)
            }
        }
    }

    /// The clock, read once per 32 replies of a pass: it costs as much as the rest.
    @inline(__always)
    private func readClock() -> UInt64 {
        if clockUses & 31 == 0 { clockReading = BenchClock.now() }
        clockUses += 1
        return clockReading
    }

    @inline(__always)
    private func finish(_ index: Int, _ recorder: LatencyRecorder, _ now: UInt64) {
        recorder.record(now &- slots[index].intended)
        // A closed loop: the next operation is wanted now. In an open one it is wanted when it comes.
        slots[index].intended = schedule == nil ? now : 0
        slots[index].step = .fresh
        release(index)
    }

    @inline(__always)
    private func release(_ index: Int) {
        free[freeCount] = Int32(truncatingIfNeeded: index)
        freeCount += 1
    }

    @inline(__always)
    private func acknowledge(_ index: Int, _ version: UInt64, _ now: UInt64) {
        let slot = slots[index]
        acks[ackCount] = Acknowledgement(
            key: slot.key, version: version,
            stamp: slot.kind == .delete ? AckTable.deleted : slot.stamp)
        ackCount += 1
        if ackLog != nil { noteAck(index, now) }
        if !memory.isEmpty { noteHistory(index, output: nil, isOK: true, returned: now) }
        finish(index, tally.writes, now)
    }

    private func finishRead(_ index: Int, _ found: VersionedValue?, _ now: UInt64) {
        if checksReads {
            let floor = slots[index].floor
            // Without deletes a key that was written stays.
            let seen = found?.version ?? (workload.mix.weights[3] > 0 ? floor : 0)
            if seen < floor {
                tally.note(
                    violation: "a read of \(workload.name(ofKey: slots[index].key)) saw version "
                        + "\(seen), but version \(floor) was acknowledged before it began")
            }
        }
        if !memory.isEmpty {
            noteHistory(index, output: found?.value, isOK: true, returned: now)
        }
        if slots[index].step == .read {
            slots[index].step = .write
            slots[index].seen = found?.version ?? 0
            return release(index)
        }
        finish(index, tally.reads, now)
    }

    private func refuse(_ index: Int, needsTopology: Bool) {
        if needsTopology { isViewOld = true }
        tally.retries &+= 1
        // What is refused more often must not be drawn less often.
        if slots[index].step == .fresh, workload.distribution != nil { slots[index].step = .again }
        parked.append(Int32(truncatingIfNeeded: index))
    }

    private func loseOutcome(_ index: Int, _ now: UInt64) {
        let slot = slots[index]
        tally.unknownOutcomes &+= 1
        if slot.kind != .get {
            tally.unknown.note(
                key: slot.key, stamp: slot.kind == .delete ? AckTable.deleted : slot.stamp)
        }
        if !memory.isEmpty {
            noteHistory(index, output: nil, isOK: false, returned: nil)
            // A process has one operation at a time, and this one may still be going on.
            memory[index].process = nextProcess
            nextProcess += processStep
        }
        isViewOld = true
        finish(index, slot.kind == .get ? tally.reads : tally.writes, now)
    }

    // MARK: The next operations

    override func flush() {
        var requests: [ClientRequest] = lock.withLock { _ in
            clockUses = 0
            for position in 0..<ackCount {
                let ack = acks[position]
                tally.table.acknowledge(key: ack.key, version: ack.version, stamp: ack.stamp)
            }
            ackCount = 0
            guard freeCount > 0 else { return [] }
            if isStopping {
                outstanding -= freeCount
                freeCount = 0
                return []
            }
            var requests: [ClientRequest] = []
            swap(&requests, &spare)
            let now = BenchClock.now()
            for position in 0..<freeCount {
                let index = Int(free[position])
                if schedule != nil, slots[index].intended == 0, !isPreloading {
                    guard let came = schedule?.take(now) else {
                        idle.append(Int32(truncatingIfNeeded: index))
                        continue
                    }
                    slots[index].intended = came
                }
                if let request = nextRequest(index, now) {
                    requests.append(request)
                } else if isPreloading {
                    outstanding -= 1
                    slots[index].intended = 0
                } else {
                    parked.append(Int32(truncatingIfNeeded: index))
                }
            }
            freeCount = 0
            ackLog?.flush(now: now)
            return requests
        }
        guard !requests.isEmpty else { return }
        target.submit(&requests)
        // Empty now, with its room: the next flush fills it again.
        lock.withLock { _ in
            if spare.capacity < requests.capacity { swap(&spare, &requests) }
        }
    }

    /// Draws and encodes one operation; nil: the node leads no key, as far as is known.
    @inline(__always)
    private func nextRequest(_ index: Int, _ now: UInt64) -> ClientRequest? {
        guard let owned, !owned.isEmpty else { return nil }
        switch slots[index].step {
        case .fresh:
            guard let drawn = drawKey(owned) else { return nil }
            slots[index].key = drawn
            slots[index].kind = isPreloading ? .put : workload.mix.kind(random.next())
            if slots[index].kind == .modify { slots[index].step = .read }
        case .again: slots[index].step = .fresh
        case .read, .write: break
        }
        switch slots[index].step {
        case .read: slots[index].kind = .get
        case .write: slots[index].kind = .modify
        case .fresh, .again: break
        }
        if slots[index].intended == 0 { slots[index].intended = now }
        slots[index].called = now
        let key = slots[index].key
        slots[index].sequence &+= 1
        let keyBytes = workload.writeKey(key, record: nextRecord, to: scratch)
        let keyText = UnsafeRawBufferPointer(start: scratch, count: keyBytes)
        switch slots[index].kind {
        case .get:
            slots[index].floor = checksReads ? tally.table[key].version : 0
            records.append(keyText)
            let taken = records.take()
            if !memory.isEmpty { remember(index, key: taken, value: nil, expected: nil) }
            return request(.get(workload.readMode), key: taken, index)
        case .put:
            stamp(index)
            let valueBytes = workload.writeValue(slots[index].stamp, to: scratch + keyBytes)
            CommandRecord.appendPut(
                key: keyText,
                value: UnsafeRawBufferPointer(start: scratch + keyBytes, count: valueBytes),
                to: &records)
        case .delete:
            stamp(index)
            CommandRecord.appendDelete(key: keyText, to: &records)
        case .cas:
            return compareAndSet(index, key: Bytes(copying: keyText))
        case .modify:
            return setUnlessChanged(index, key: Bytes(copying: keyText))
        }
        let record = records.take()
        let start = CommandRecord.headerBytes
        let sharedKey = record[start..<start + keyBytes]
        if !memory.isEmpty {
            let value = slots[index].kind == .put ? record[start + keyBytes..<record.count] : nil
            remember(index, key: sharedKey, value: value, expected: nil)
        }
        return request(.write(record: record), key: sharedKey, index)
    }

    @inline(__always)
    private func request(
        _ operation: ClientOperation, key: Bytes, _ index: Int
    ) -> ClientRequest {
        ClientRequest(
            operation: operation, key: key, sink: self, tag: UInt64(truncatingIfNeeded: index))
    }

    @inline(__always)
    private func stamp(_ index: Int) {
        if case .generated = workload.source {
            slots[index].stamp = Workload.stamp(
                client: firstClient + index, sequence: slots[index].sequence)
        } else {
            slots[index].stamp = UInt64(nextRecord)
        }
    }

    /// A key that the node leads; for an input the next line's, whose position is then
    /// `nextRecord`. Nil: there is none, or all are preloaded.
    @inline(__always)
    private func drawKey(_ owned: OwnedKeys) -> Int? {
        if isPreloading { return nextPreload(owned) }
        switch workload.source {
        case .generated:
            return workload.distribution.map { $0.draw(&random) } ?? owned.draw(&random)
        case .input(let input):
            for _ in 0..<input.records.count {
                nextRecord += 1
                if nextRecord >= input.records.count { nextRecord = 0 }
                if owned.contains(record: nextRecord) {
                    return input.records[nextRecord].keyNumber
                }
            }
            return nil
        }
    }

    /// The next key, or line, that was not preloaded yet.
    private func nextPreload(_ owned: OwnedKeys) -> Int? {
        switch workload.source {
        case .generated(let keys, _):
            while preloaded < Int(keys.count) {
                let number = preloaded
                preloaded += part.of
                if owned.contains(generated: UInt64(number)) { return number }
            }
        case .input(let input):
            while preloaded < input.records.count {
                preloaded += 1
                if owned.contains(record: preloaded - 1) {
                    nextRecord = preloaded - 1
                    return input.records[nextRecord].keyNumber
                }
            }
        }
        return nil
    }

    private func compareAndSet(_ index: Int, key: Bytes) -> ClientRequest? {
        let isKnown = memory[index].knownKey == slots[index].key
        let expected = isKnown ? memory[index].known : nil
        return set(index, key, if: expected.map { .value($0) } ?? .absent, expected: expected)
    }

    /// The write of a read-modify-write: only over what the client has read.
    private func setUnlessChanged(_ index: Int, key: Bytes) -> ClientRequest? {
        let seen = slots[index].seen
        return set(
            index, key, if: seen == 0 ? .absent : .version(seen), expected: memory[index].known)
    }

    private func set(
        _ index: Int, _ key: Bytes, if condition: Expectation, expected: Bytes?
    ) -> ClientRequest? {
        stamp(index)
        let value = workload.value(slots[index].stamp)
        remember(index, key: key, value: value, expected: expected)
        let command = Command.compareAndSet(key: key, expected: condition, value: value)
        guard let record = try? command.encoded() else { return nil }
        return request(.write(record: record), key: key, index)
    }

    // MARK: Logs

    private func remember(_ index: Int, key: Bytes, value: Bytes?, expected: Bytes?) {
        memory[index].key = key
        memory[index].value = value
        memory[index].expected = expected
    }

    private func noteHistory(_ index: Int, output: Bytes?, isOK: Bool, returned: UInt64?) {
        let slot = slots[index]
        // What the client now knows of the key, for its next compare-and-set.
        if slot.kind == .get {
            memory[index].knownKey = slot.key
            memory[index].known = output
        } else if isOK {
            memory[index].knownKey = slot.key
            memory[index].known = slot.kind == .delete ? nil : memory[index].value
        } else {
            memory[index].knownKey = -1
        }
        guard history != nil else { return }
        history?.note(
            HistoryLog.Event(
                process: memory[index].process, kind: slot.kind, key: memory[index].key,
                value: memory[index].value, expected: memory[index].expected, output: output,
                isOK: isOK, call: slot.called, returned: returned))
    }

    private func noteAck(_ index: Int, _ now: UInt64) {
        let slot = slots[index]
        let record: Int
        if case .input = workload.source { record = Int(slot.stamp) } else { record = 0 }
        let keyBytes = workload.writeKey(slot.key, record: record, to: scratch)
        let key = UnsafeRawBufferPointer(start: scratch, count: keyBytes)
        if slot.kind == .delete {
            ackLog?.note(at: now, operation: slot.stamp, key: key, value: nil)
        } else {
            let valueBytes = workload.writeValue(slot.stamp, to: scratch + keyBytes)
            ackLog?.note(
                at: now, operation: slot.stamp, key: key,
                value: UnsafeRawBufferPointer(start: scratch + keyBytes, count: valueBytes))
        }
    }
}
