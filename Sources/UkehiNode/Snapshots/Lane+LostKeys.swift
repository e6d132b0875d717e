// A region that came out of another one, and whose keys that one will not bring any more (SplitMerge/
// NodeCore+WaitingRegions.swift), gets its state as a peer that has lost entries does (Lane+LostEntries.swift): from
// its leader, past everything that its log holds, since it has acknowledged that.
//
// Invariants
//   - It begins only when what it came out of holds its range no more, here and after every crash.
//   - Until the state is there nothing of it is applied, read, or shown, and it leads nobody.

import DequeModule
import Logging
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiWAL

extension Lane {
    /// Nothing here will bring a region's keys.
    func keysAreLost(_ id: RegionID) {
        guard let region = regions[id], region.awaitsKeys else { return }
        logger.error(
            "a region's keys are asked of its leader: what it came out of will not bring them",
            metadata: ["region": "\(id)"])
        region.keysAreLost = true
        observer?.lostKeys(region: id)
        // It could not go before.
        if let last = region.leavesAs { return leave(region, as: last) }
        askForState(region)
    }

    /// Whether a region will not apply its log up to `index`: there are entries that it lacks, and that nobody gives to
    /// one that is a member no more.
    func cannotReplay(_ region: Region, upTo index: LogIndex) -> Bool {
        region.keysAreLost
            || region.holes.contains { hole in
                let isLacking =
                    switch hole.progress {
                    case .asking, .beyondRepair: true
                    case .mending, .writing: false
                    }
                return isLacking && hole.entries.last > region.applied
                    && hole.entries.first <= index
            }
    }

    /// Where nobody leads a region nobody can give it its keys: that is said again and again.
    func tellOfLostKeys(_ region: Region) {
        guard region.leader == .none, ticks >= region.lostKeysToldAt + 60 * ticksPerSecond else {
            return
        }
        region.lostKeysToldAt = ticks
        logger.error(
            "a region's keys are lost here, and nobody leads it who could give them",
            metadata: [
                "region": "\(region.id)",
                "advice": "see to the nodes of its other members, or recover without them",
            ])
    }

    /// What it has committed is in the snapshot. The core counts what was handed out and is not applied.
    func dropHeld(_ region: Region) {
        let held = region.heldApplies
        region.heldApplies.removeAll()
        for item in held {
            step(
                Message(
                    kind: .storageApplyResponse, to: region.peer, from: .localApply,
                    entries: item.message.entries), region)
        }
    }
}
