import Testing
import UkehiBase

@testable import UkehiSimulation

@Suite("Simulated clusters whose members change")
struct MembershipSimulationTests {
    @Test("members change under faults, and all promises are kept")
    func seeds() {
        var (changes, arrivals, snapshots) = (0, 0, 0)
        for seed in 1...6 as ClosedRange<UInt64> {
            let result = SimulationRun(seed: seed, minutes: 0.3, scenario: .members).run()
            #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
            changes += result.memberChanges
            arrivals += result.newPeers
            snapshots += result.snapshotsInstalled
        }
        #expect(changes > 100)
        #expect(arrivals > 5)
        // Most new peers find that the log does not go back to its beginning.
        #expect(snapshots > 5)
    }

    /// Seeds that once found something.
    ///
    /// - 111: a peer that was not there yet got a vote.
    /// - 113: what had been removed came back behind a new peer.
    /// - 5006: a leader that was alone by a change forgot, without power, that this was committed.
    /// - 64: changes were applied to a core that had taken a snapshot of after them.
    /// - 2910101: two nodes that each saw other regions handed one to and fro, once a second.
    /// - 600120, 600128: so did the others of a leader that had demoted itself.
    @Test(
        "pinned seeds",
        arguments: [
            (111, 0.5), (113, 0.5), (5006, 0.3), (64, 1), (2_910_101, 0.3), (600_120, 0.4),
            (600_128, 0.4),
        ])
    func pinned(seed: UInt64, minutes: Double) {
        let result = SimulationRun(seed: seed, minutes: minutes, scenario: .members).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
    }
}
