import Testing
import UkehiBase

@testable import UkehiSimulation

@Suite("Simulated clusters whose regions are divided")
struct SplitSimulationTests {
    @Test("regions are divided under faults, and all promises are kept")
    func seeds() {
        var (splits, unasked, changes, snapshots) = (0, 0, 0, 0)
        for seed in 1...8 as ClosedRange<UInt64> {
            let result = SimulationRun(seed: seed, minutes: 0.3, scenario: .splits).run()
            #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
            splits += result.splits
            unasked += result.unaskedSplits
            changes += result.memberChanges
            snapshots += result.snapshotsInstalled
        }
        #expect(splits > 10)
        #expect(unasked > 10)
        // In the same schedules.
        #expect(changes > 20)
        #expect(snapshots > 5)
    }

    /// Seeds that once found something.
    ///
    /// - 678665058: what had come out of a region before its kept snapshot was not opened after a restart.
    /// - 800013: a region that was forsaken by its parent had a commit index and no log.
    /// - 800220: a peer that did not know of its removal was in a new region's way.
    /// - 68: nobody created most of a new region's peers; a snapshot whose installation a start ended
    ///   took away the keys of regions that had come out of its own.
    /// - 9000069: a region was introduced where the one it had come out of was about to be opened.
    /// - 7100012: a peer that was introduced to a divided region was found again with the undivided range.
    /// - 2800062: a crash undid a division, and somebody else had been introduced to what was given away.
    /// - 2800145: of a region in memory the divided state was kept before what had come out of it.
    /// - 2900218: reads that waited for a peer were not answered when it was removed, nor any after them.
    /// - 2900561: a peer went while its division was being applied: nobody knew of what came out of it.
    /// - 49000269: what a peer had installed was kept after it had left, and a later peer began with it.
    /// - 85: who was offered more snapshots than it takes at once forgot the others.
    @Test(
        "pinned seeds",
        arguments: [
            (678_665_058, 0.2), (800_013, 0.3), (800_220, 0.3), (68, 0.5), (85, 0.5),
            (9_000_069, 0.3), (7_100_012, 0.3), (2_800_062, 0.3), (2_800_145, 0.3),
            (2_900_218, 0.3), (2_900_561, 0.3), (49_000_269, 0.3),
        ])
    func pinned(seed: UInt64, minutes: Double) {
        let result = SimulationRun(seed: seed, minutes: minutes, scenario: .splits).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
    }
}
