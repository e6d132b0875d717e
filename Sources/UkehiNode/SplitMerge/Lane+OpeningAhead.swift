// New regions are opened ahead of their keys.
//
//   births durable ──> handed to the state ────────────────────> applied: keys, ticks, requests
//                └──> opened ahead: takes appends, votes, leads ──┘
//
// Nobody acknowledges a write of a new region before most of its peers have an entry of its first leader's, and
// that needs no keys: a state that takes its time over the division holds up its own node only.
//
// Invariants
//   - Nothing of a region that awaits its keys is applied, read, put into a snapshot or shown, and its parent
//     still holds its range.
//   - The division is certain by then: its parent does not go, nor is it replaced, before it is applied.
//   - Whoever leads without keys sends no heartbeats, and nobody else begins to: who has the keys takes over from
//     a first leader whose state stands still. (No lease may be counted from before they came.) Others' clocks
//     run, so that they vote when their leader is gone, but do not campaign.

import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

extension Lane {
    /// A division is on its way to the state: what comes out of it here is opened.
    func openAhead(_ split: HandedSplit) {
        // Where applying takes no time there is nothing to gain.
        guard !applier.appliesInline, !rare.takes(.openedWithKeys) else { return }
        // One that an earlier life has left behind is read from the log, with its keys.
        let births = split.births.filter { host?.standing(ofChild: $0.region) == .new }
        guard !births.isEmpty else { return }
        host?.openAhead(births, leaders: split.leaders(of: births), by: self)
    }

    func awaitKeys(of region: Region) {
        region.awaitsKeys = true
        region.awaitsKeysSince = ticks
        // New ids are the highest, as a rule.
        let before = awaitingRegions.lastIndex { $0.id < region.id }
        awaitingRegions.insert(region, at: before.map { $0 + 1 } ?? 0)
    }

    /// One tick of the clocks of those that follow.
    func tickAwaiting() {
        for region in awaitingRegions where !region.raft.isLeader {
            region.raft.holdsCampaigns = true
            for _ in 0..<ticksDue(region) { region.raft.tick() }
            markDirty(region)
        }
    }

    /// The division that a region awaits is applied: from now on it is one like the others.
    func keysCame(to region: Region) {
        region.awaitsKeys = false
        region.keysAreLost = false
        awaitingRegions.removeAll { $0 === region }
        region.raft.holdsCampaigns = logStall != nil
        region.heardTick = ticks
        let before = orderedRegions.lastIndex { $0.id < region.id }
        orderedRegions.insert(region, at: before.map { $0 + 1 } ?? 0)
        releaseChanges(upTo: .zero, region)
        applyAtOnce(region)
        if let last = region.leavesAs { leave(region, as: last) }
    }

    /// Applies what a new region has committed already, its first leader's entry as a rule, before anything of
    /// others, which may be on the apply thread: until then it acknowledges nothing.
    func applyAtOnce(_ region: Region) {
        guard let place = applyBatch.items.firstIndex(where: { $0.region == region.id }),
            let entry = applyBatch.items[place].entries.first,
            // One thread at a time applies a region: nothing of this one may be under way.
            entry.index == region.applied + 1, !rare.takes(.appliedOnThread)
        else { return }
        let most = Limits.maxFirstApplyBytesOnLane
        do throws(StateError) {
            var own = ApplyBatch()
            own.items = applyBatch.items.filter { $0.region == region.id }
            if try applier.applyWithoutWaiting(&own, atMost: most) {
                applyBatch.items.removeAll { $0.region == region.id }
                return completeApply(own)
            }
            // Writes came into the log behind it, too many for the lane, or such as have to read.
            guard entry.data.isEmpty, applyBatch.items[place].entries.count > 1 else { return }
            var first = ApplyBatch()
            first.append(
                region: region.id, entries: [entry],
                wantsResults: applyBatch.items[place].wantsResults)
            guard try applier.applyWithoutWaiting(&first, atMost: most) else { return }
            applyBatch.items[place].entries.removeFirst()
            completeApply(first)
        } catch {
            fail(NodeError(error))
        }
    }

    /// Finds the regions that the router has.
    func routeRegions() {
        routedRegions = router.routes.map { region(withKeys: $0.region) }
    }

    /// A region of this lane whose keys are here.
    func region(withKeys id: RegionID) -> Region? {
        guard let region = regions[id], !region.awaitsKeys else { return nil }
        return region
    }

    /// Whether what a region commits has to wait.
    func awaitsKeys(_ region: Region) -> Bool {
        #if BugBank
            if PlantedBug.appliesAheadOfKeys.isPlanted { return false }
        #endif
        return region.awaitsKeys
    }
}
