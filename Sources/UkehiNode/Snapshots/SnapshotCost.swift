// Whether a peer that lags is brought on by the log or by a snapshot: by whichever is cheaper.
//
//   log        each byte is sent, written to the peer's log, and applied
//   snapshot   each byte of the state is read, compressed, written, sent, written, read twice and built into
//              the peer's store, and the leader's log is kept for all of that time
//
// So a byte of a snapshot counts as two of the log. A leader does not wait for a peer that lacks more log
// than twice what a snapshot would hold: the log is compacted past it, and the snapshot follows by itself.
// `raft.max_log_entries` and `raft.max_log_mb` bound what is kept in any case. Below an eighth of that no
// snapshot is worth its steps, nor what it takes to find out how large it would be.

import UkehiBase
import UkehiEnvironment
import UkehiState

enum SnapshotCost {
    /// Bytes of log that cost as much as a byte of a snapshot.
    static let logBytesPerByte: UInt64 = 2

    /// Less log than this is always sent as it is.
    static func leastLogBytes(_ options: NodeOptions) -> Int { options.maxLogBytes / 8 }

    /// Bytes of log that are kept at most for a peer that has just got a snapshot: written while that was
    /// made, sent and installed, which takes as long as the state is large: half a minute for 1 GiB on two busy
    /// cores, in which 40,000 writes of 1 KiB a second are 1.2 GiB.
    static func mostLogBytes(_ options: NodeOptions) -> Int {
        max(options.maxLogBytes, min(32 * options.maxLogBytes, 2 << 30))
    }

    /// A larger state need not be measured to its end: the log is cheaper.
    static func mostMeasuredBytes(_ options: NodeOptions) -> UInt64 {
        UInt64(options.maxLogBytes) / logBytesPerByte
    }

    /// Bytes of log that are kept for peers that lag, for a region whose snapshot would hold so much; nil:
    /// that is not known.
    static func keptLogBytes(_ stateBytes: UInt64?, _ options: NodeOptions) -> Int {
        guard let stateBytes, stateBytes < mostMeasuredBytes(options) else {
            return options.maxLogBytes
        }
        return max(leastLogBytes(options), Int(logBytesPerByte * stateBytes))
    }
}

extension Lane {
    /// Once a second: finds out what a snapshot would cost where a peer lags so far that it matters.
    func weighSnapshot(_ region: Region) {
        guard region.isLeader, options.compactsPastLagging, !region.isBeingMeasured,
            region.measuredBytes == nil
                || ticks - region.measuredAt >= Limits.ticksPerMeasurement,
            applier.givesSnapshots(of: region.id),
            let index = region.log.index(before: SnapshotCost.leastLogBytes(options)),
            index > region.commonIndex()
        else { return }
        region.isBeingMeasured = true
        let id = region.id
        let kept = snapshotWork.keeper?.rawBytes(of: id) ?? 0
        guard kept == 0 else { return measured(id, kept) }
        let applier = applier
        let limit = SnapshotCost.mostMeasuredBytes(options)
        let lane = self
        maintenanceWorker.run {
            lane.post(.snapshotMeasured(id, applier.snapshotBytes(of: id, upTo: limit)))
        }
    }

    /// Nil: it cannot be known.
    func measured(_ id: RegionID, _ bytes: UInt64?) {
        guard let region = regions[id] else { return }
        region.isBeingMeasured = false
        region.measuredBytes = bytes
        region.measuredAt = ticks
    }
}
