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
        // It could not go before.
        if let last = region.leavesAs { return leave(region, as: last) }
        askForState(region)
    }

    /// Whether a region will not apply what its log holds, and none can be got from peers by one that is a member no
    /// more.
    func cannotReplay(_ region: Region) -> Bool {
        region.keysAreLost || region.holes.contains { $0.entries.last > region.applied }
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
