// The load of `ukehi bench wal`: closed-loop appenders, called back by the log, as a lane's are.
//
//   durable(upTo:) -> the oldest batches are done -> their appenders' next entries -> submit
//
// An appender wants its next entry durable the moment the last one is. No thread waits for one: what
// became durable together goes on together, on the log's own thread. Batches complete in the order of
// submission, so that "which appender" is a place in a ring and needs no memory of its own.

import Synchronization
import UkehiBase
import UkehiWAL

/// All appenders of one row.
final class LogAppenders: Sendable {
    let row: LogBenchRow
    private let payloads: LogPayloads
    private let state: Mutex<State>

    /// What of the load is under way. Under the lock of `state`, which is taken before the log's.
    private struct State: ~Copyable {
        var log: WriteAheadLog?
        var batch = LogBatch()
        /// Of the run that is being collected; reused.
        var entries: [Entry] = []
        /// The next index of each region.
        var next: [UInt64]
        /// What each region's log begins with.
        var first: [UInt64]
        /// The ring's place: how many entries were submitted.
        var submitted: UInt64 = 0
        var acknowledged: UInt64 = 0
        /// Batches under way, oldest first, in a ring: at most one for each appender.
        var flights: [Flight]
        var oldest = 0
        var flightCount = 0
        var latencies = LatencyRecorder()
        var isStopping = false
        var failure: String?
    }

    private struct Flight {
        var ticket: Ticket = 0
        var count = 0
        var start: UInt64 = 0
    }

    private let batchEntries: Int

    init(row: LogBenchRow, payloads: LogPayloads, batchEntries: Int) {
        self.row = row
        self.payloads = payloads
        self.batchEntries = batchEntries
        state = Mutex(
            State(
                next: [UInt64](repeating: 1, count: row.regions),
                first: [UInt64](repeating: 1, count: row.regions),
                flights: [Flight](repeating: Flight(), count: row.appenders)))
    }

    // MARK: Driving

    /// Lets every appender append its first entry.
    func start(on log: WriteAheadLog) {
        state.withLock { state in
            state.log = log
            state.batch = log.newBatch()
            submit(row.appenders, at: BenchClock.now(), &state)
        }
    }

    /// The log's durable handler.
    func durable(upTo ticket: Ticket) {
        state.withLock { state in
            let now = BenchClock.now()
            var freed = 0
            while state.flightCount > 0, state.flights[state.oldest].ticket <= ticket {
                let flight = state.flights[state.oldest]
                for _ in 0..<flight.count { state.latencies.record(now - flight.start) }
                freed += flight.count
                state.oldest = state.oldest + 1 == state.flights.count ? 0 : state.oldest + 1
                state.flightCount -= 1
            }
            state.acknowledged += UInt64(freed)
            if !state.isStopping { submit(freed, at: now, &state) }
        }
    }

    /// Lets regions drop their entries but the newest, as a node does with what its state has; the log
    /// can then free segments.
    func compact(_ regions: [RegionID]) {
        guard !regions.isEmpty else { return }
        state.withLock { state in
            guard let log = state.log, state.failure == nil else { return }
            var batch = LogBatch()
            for region in regions {
                let position = LogPayloads.position(of: region)
                let first = state.next[position] - 1
                guard first > state.first[position] else { continue }
                state.first[position] = first
                batch.compact(
                    region: region, firstIndex: LogIndex(first), term: Term(1))
            }
            do throws(WALError) {
                _ = try log.submit(&batch, lane: LogAppenders.compactionLane)
            } catch {
                state.failure = state.failure ?? error.description
            }
        }
    }

    /// Whose durability interests nobody.
    static let compactionLane = 1

    /// The log's failure handler.
    func failed(_ reason: String) {
        state.withLock { $0.failure = $0.failure ?? reason }
    }

    /// Lets no appender append again until ``resume()``; true once nothing is under way.
    func drain() -> Bool {
        state.withLock { state in
            state.isStopping = true
            return state.flightCount == 0
        }
    }

    /// Lets every appender go on. Only once nothing is under way.
    func resume() {
        state.withLock { state in
            state.isStopping = false
            submit(row.appenders, at: BenchClock.now(), &state)
        }
    }

    /// Lets go of the log, which its handler held.
    func end() { state.withLock { $0.log = nil } }

    // MARK: Looking

    /// How many entries were acknowledged since the start.
    var acknowledged: UInt64 { state.withLock { $0.acknowledged } }
    /// Why the log stopped or refused, if it did.
    var failure: String? { state.withLock { $0.failure } }
    /// The last index that each region was given, by position; all of them acknowledged once drained.
    var lastIndexes: [UInt64] { state.withLock { $0.next.map { $0 - 1 } } }
    /// The first index that each region still has.
    var firstIndexes: [UInt64] { state.withLock { $0.first } }

    /// Forgets the latencies so far.
    func forgetLatencies() { state.withLock { $0.latencies.reset() } }

    /// The latencies since ``forgetLatencies()``.
    func latencies() -> LatencySummary { state.withLock { $0.latencies.summary() } }

    // MARK: Appending

    private func submit(_ count: Int, at now: UInt64, _ state: inout State) {
        var left = count
        while left > 0, state.failure == nil {
            let size = min(left, batchEntries)
            encode(size, &state)
            guard let ticket = hand(&state) else { return }
            var place = state.oldest + state.flightCount
            if place >= state.flights.count { place -= state.flights.count }
            state.flights[place] = Flight(ticket: ticket, count: size, start: now)
            state.flightCount += 1
            left -= size
        }
    }

    private func hand(_ state: inout State) -> Ticket? {
        guard let log = state.log else { return nil }
        do throws(WALError) {
            return try log.submit(&state.batch, lane: 0)
        } catch {
            state.failure = state.failure ?? error.description
            return nil
        }
    }

    /// Fills the batch with the next entries of `count` appenders; neighbours of one region share an
    /// item, as a region's entries of one pass do.
    private func encode(_ count: Int, _ state: inout State) {
        var region = -1
        for _ in 0..<count {
            let owner = self.region(of: state.submitted)
            state.submitted += 1
            if owner != region {
                flush(region, &state)
                region = owner
            }
            let index = state.next[owner]
            state.next[owner] = index + 1
            state.entries.append(
                Entry(
                    term: Term(1), index: LogIndex(index),
                    data: payloads.payload(region: owner, index: index)))
        }
        flush(region, &state)
    }

    private func flush(_ region: Int, _ state: inout State) {
        guard let first = state.entries.first else { return }
        state.batch.append(
            region: LogPayloads.id(of: region),
            hardState: HardState(term: Term(1), vote: PeerID(1), commit: first.index - 1),
            entries: state.entries)
        state.entries.removeAll(keepingCapacity: true)
    }

    /// Appenders that share a region are neighbours in the ring; one that has several takes turns.
    private func region(of position: UInt64) -> Int {
        if row.regions >= row.appenders {
            return Int(truncatingIfNeeded: position % UInt64(row.regions))
        }
        return Int(truncatingIfNeeded: position % UInt64(row.appenders)) * row.regions
            / row.appenders
    }
}

/// What entries hold: slices of one block, different for each region and index, and known again when
/// they are read back.
struct LogPayloads: Sendable {
    enum Kind: String, Sendable {
        case noise, text
    }

    private let block: Bytes
    private let entryBytes: Int
    private let places: UInt64

    init(entryBytes: Int, kind: Kind = .noise) {
        let count = entryBytes + max(256 << 10, 4 * entryBytes)
        switch kind {
        case .text: block = ValueGenerator.makePool(bytes: count)
        case .noise:
            var random = BenchRandom(seed: 7)
            block = Bytes((0..<count).map { _ in UInt8(truncatingIfNeeded: random.next() >> 32) })
        }
        self.entryBytes = entryBytes
        // Odd, so that the second time around slices begin elsewhere.
        places = UInt64(count - entryBytes - 1)
    }

    func payload(region: Int, index: UInt64) -> Bytes {
        // One behind the other, or those of one batch would overlap and compress each other.
        let place = BenchRandom.mix(UInt64(region)) >> 1 + index * UInt64(entryBytes)
        let start = Int(truncatingIfNeeded: place % places)
        return block[start..<start + entryBytes]
    }

    /// The id of the region at a position.
    static func id(of position: Int) -> RegionID { RegionID(UInt64(position) + 2) }
    static func position(of region: RegionID) -> Int { Int(region.rawValue) - 2 }
}
