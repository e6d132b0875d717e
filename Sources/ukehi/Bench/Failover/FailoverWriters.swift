// Clients that write new keys all the time, and remember what became of each.
//
//   key    | the region's lowest key | 0 | "failover/" client "/" number |
//   value  | client "/" number, padded |
//
// A write counts for the watched region if it began after the kill: what the killed node answered
// in its last moment is none of those.

import Synchronization
import Ukehi
import UkehiBase
import UkehiNode

/// What the writes came to so far.
struct WriteCounts: Sendable {
    var acknowledged = 0
    var unknown = 0
    var failed = 0

    static func - (a: WriteCounts, b: WriteCounts) -> WriteCounts {
        WriteCounts(
            acknowledged: a.acknowledged - b.acknowledged, unknown: a.unknown - b.unknown,
            failed: a.failed - b.failed)
    }
}

/// The writes of one client to one region, one after another.
final class FailoverWriter: Sendable {
    enum Outcome: UInt8, Sendable { case pending, acknowledged, unknown, failed }

    let region: RegionInfo
    let client: Int
    private struct State {
        var outcomes: [Outcome] = []
        var counts = WriteCounts()
        /// Writes that began before count for nothing.
        var since: UInt64 = .max
        var firstAcknowledged: UInt64?
    }
    private let state = Mutex(State())

    init(region: RegionInfo, client: Int) {
        self.region = region
        self.client = client
    }

    var counts: WriteCounts { state.withLock { $0.counts } }
    /// By number.
    var outcomes: [Outcome] { state.withLock { $0.outcomes } }

    /// From now on the first acknowledgement of a write that began at `since` or later is looked for.
    func watch(since: UInt64) {
        state.withLock { state in
            state.since = since
            state.firstAcknowledged = nil
        }
    }
    var firstAcknowledged: UInt64? { state.withLock { $0.firstAcknowledged } }

    /// What stands before the number in every key of this writer.
    var prefix: [UInt8] { region.range.lower.array + [0] + Array("failover/\(client)/".utf8) }
    func key(_ number: Int) -> Bytes { Bytes(prefix + Array("\(number)".utf8)) }
    func value(_ number: Int) -> Bytes {
        let text = Array("\(client)/\(number)/".utf8)
        let fill = max(0, FailoverSettings.valueBytes - text.count)
        return Bytes(text + [UInt8](repeating: UInt8(ascii: "."), count: fill))
    }

    /// Writes one key; gives when it began.
    func write(with client: Client) async -> UInt64 {
        let number = state.withLock { state in
            state.outcomes.append(.pending)
            return state.outcomes.count - 1
        }
        let (key, value) = (key(number), value(number))
        let begun = BenchClock.now()
        let outcome: Outcome
        do {
            try await client.put(key, value)
            outcome = .acknowledged
        } catch .outcomeUnknown {
            outcome = .unknown
        } catch {
            outcome = .failed
        }
        let ended = BenchClock.now()
        state.withLock { state in
            state.outcomes[number] = outcome
            switch outcome {
            case .pending, .failed: state.counts.failed += 1
            case .unknown: state.counts.unknown += 1
            case .acknowledged:
                state.counts.acknowledged += 1
                if begun >= state.since, state.firstAcknowledged == nil {
                    state.firstAcknowledged = ended
                }
            }
        }
        return begun
    }
}

/// Every client's writers to every region.
final class FailoverWriters: Sendable {
    let writers: [FailoverWriter]
    private let isStopped = Atomic<Bool>(false)

    init(regions: [RegionInfo]) throws(BenchFailure) {
        writers = (0..<FailoverSettings.clients).flatMap { client in
            regions.map { FailoverWriter(region: $0, client: client) }
        }
        for writer in writers where !writer.region.range.contains(writer.key(.max)) {
            throw BenchFailure(
                "Nothing was measured: region \(writer.region.region) is too small for its keys.")
        }
    }

    func stop() { isStopped.store(true, ordering: .relaxed) }

    var counts: WriteCounts {
        writers.reduce(into: WriteCounts()) { sum, writer in
            let counts = writer.counts
            sum.acknowledged += counts.acknowledged
            sum.unknown += counts.unknown
            sum.failed += counts.failed
        }
    }

    func watch(since: UInt64) { for writer in writers { writer.watch(since: since) } }

    /// The first acknowledgement since the watch began; nil: none yet.
    func firstAcknowledged(in region: RegionID) -> UInt64? {
        writers.filter { $0.region.region == region }.compactMap(\.firstAcknowledged).min()
    }

    /// Writes until stopped.
    func run(endpoints: [String]) async throws {
        let clients = try (0..<FailoverSettings.clients).map { first in
            // Each begins with another node.
            try Client(
                endpoints: Array(
                    (endpoints + endpoints)[(first % endpoints.count)...].prefix(endpoints.count)))
        }
        await withTaskGroup(of: Void.self) { group in
            for writer in writers {
                group.addTask { [self] in
                    while !isStopped.load(ordering: .relaxed) {
                        let begun = await writer.write(with: clients[writer.client])
                        let next = begun + UInt64(FailoverSettings.pauseMilliseconds) * 1_000_000
                        let now = BenchClock.now()
                        if now < next {
                            try? await Task.sleep(for: .nanoseconds(Int64(next - now)))
                        }
                    }
                }
            }
        }
        for client in clients { await client.stop() }
    }
}
