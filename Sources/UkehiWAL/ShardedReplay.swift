// Replay on several threads: what a record makes of its region depends on that region's records
// alone, so that each thread applies all records of its share of the regions, in log order.

import Synchronization
import UkehiBase
import UkehiEnvironment

/// Which regions a thread replays.
struct RegionShare: Sendable {
    var number: UInt64
    var count: UInt64

    static let all = RegionShare(number: 0, count: 1)

    @inline(__always)
    func contains(_ region: RegionID) -> Bool {
        // Ids are given out one after the other, so that the shares are alike.
        count == 1 || region.rawValue % count == number
    }
}

/// A replay of all regions, in shares.
struct ShardedReplay {
    private final class Shard: Sendable {
        let share: RegionShare
        let replay: Mutex<Replay>

        init(_ share: RegionShare, isComplete: Bool) {
            self.share = share
            replay = Mutex(Replay(isComplete: isComplete))
        }
    }

    private let shards: [Shard]
    private let parallel: any ParallelRunner

    init(isComplete: Bool, _ parallel: any ParallelRunner) {
        self.parallel = parallel
        let count = UInt64(max(parallel.width, 1))
        shards = (0..<count).map {
            Shard(RegionShare(number: $0, count: count), isComplete: isComplete)
        }
    }

    /// Applies what the next segments were found to hold, up to the first thing that is wrong.
    func apply(_ readings: [SegmentReading]) throws(WALError) {
        let failures = Mutex<[WALError]>([])
        parallel.forEach(shards.count) { [shards] number in
            let shard = shards[number]
            shard.replay.withLock { replay in
                for reading in readings {
                    do throws(WALError) {
                        try replay.apply(
                            reading.records, damaged: reading.damaged, share: shard.share)
                    } catch {
                        return failures.withLock { $0.append(error) }
                    }
                    if reading.failure != nil { return }
                }
            }
        }
        // Each share stops at its own first failure: the first of all is what one thread finds.
        let first = failures.withLock { $0 }.min { a, b in
            guard let a = a.position, let b = b.position else { return false }
            return (a.segment, a.offset) < (b.segment, b.offset)
        }
        if let first { throw first }
        for reading in readings {
            if let failure = reading.failure { throw failure }
        }
    }

    /// Ends the replay; the regions ascending, as their owner is told of them.
    ///
    /// - Parameter damaged: Where bodies begin that cannot be read, by segment.
    func finish(
        damaged: [UInt64: Set<UInt64>]
    ) throws(WALError) -> (table: RegionTable, recovered: [RecoveredRegion]) {
        let table = RegionTable()
        var recovered: [RecoveredRegion] = []
        for shard in shards {
            try shard.replay.withLock { (replay) throws(WALError) in
                try replay.finish()
                table.add(replay.regions)
                recovered += replay.recovered(damaged)
            }
        }
        recovered.sort { $0.region < $1.region }
        return (table, recovered)
    }
}

extension Replay {
    /// The regions as the log's owner is told of them, in no order.
    fileprivate func recovered(_ damaged: [UInt64: Set<UInt64>]) -> [RecoveredRegion] {
        (0..<regions.count).map { slot in
            let log = regions[slot]
            // What was superseded or compacted away since is nobody's loss.
            let blocks =
                damaged.isEmpty
                ? []
                : log.index.live.filter {
                    damaged[UInt64($0.segment)]?.contains(UInt64($0.bodyOffset)) ?? false
                }
            return RecoveredRegion(
                region: log.region, birth: log.staged.birth, hardState: log.staged.hardState,
                firstIndex: log.staged.firstIndex, lastIndex: log.staged.lastIndex,
                compactedTerm: log.staged.compactedTerm, terms: termRuns(slot: slot),
                tombstone: log.staged.tombstone,
                damaged: blocks.map {
                    DamagedEntries(
                        region: log.region, first: LogIndex($0.first), last: LogIndex($0.end - 1))
                })
        }
    }
}
