// How a lane's transfers stand, for those who ask.

import UkehiBase

extension Lane {
    /// The transfers of this lane's regions, in no particular order.
    func transfers() -> [SnapshotTransferInfo] {
        snapshots.outgoing.map { info($0) } + snapshots.incoming.map { info($0) }
    }

    private func info(_ snapshot: OutgoingSnapshot) -> SnapshotTransferInfo {
        var total: UInt64 = 0
        var done = snapshot.pace.doneBytes
        let stage: SnapshotTransferInfo.Stage
        switch snapshot.stage {
        case .offered: stage = .offered
        case .making: stage = .making
        case .made(_, _, let bytes):
            stage = .moving
            total = bytes
        case .taken, .catchingUp:
            if case .taken = snapshot.stage { stage = .taken } else { stage = .catchingUp }
            total = snapshot.totalBytes
            done = total
        }
        return info(
            snapshot.region, .sends, stage, snapshot.peer, snapshot.pace, done: done, total: total)
    }

    private func info(_ snapshot: IncomingSnapshot) -> SnapshotTransferInfo {
        let stage: SnapshotTransferInfo.Stage
        switch snapshot.stage {
        case .receiving: stage = snapshot.id == 0 ? .offered : .moving
        case .checking: stage = .checking
        case .held: stage = .waiting
        case .given:
            let isWaiting = regions[snapshot.region]?.replacement?.stage == .waiting
            stage = isWaiting ? .waiting : .installing
        }
        return info(
            snapshot.region, .gets, stage, snapshot.peer, snapshot.pace, done: snapshot.next,
            total: snapshot.totalBytes)
    }

    private func info(
        _ region: RegionID, _ direction: SnapshotTransferInfo.Direction,
        _ stage: SnapshotTransferInfo.Stage, _ peer: PeerID, _ pace: TransferPace, done: UInt64,
        total: UInt64
    ) -> SnapshotTransferInfo {
        SnapshotTransferInfo(
            region: region, direction: direction, stage: stage, peer: peer,
            node: regions[region]?.descriptor.member(peer)?.node, doneBytes: done,
            totalBytes: total,
            milliseconds: pace.milliseconds(at: ticks, options.tickMilliseconds),
            bytesPerSecond: pace.bytesPerSecond(at: ticks, options.tickMilliseconds))
    }
}
