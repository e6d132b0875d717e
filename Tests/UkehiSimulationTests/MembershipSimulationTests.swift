import Testing
import UkehiBase

@testable import UkehiSimulation

@Suite("Simulated clusters whose members change")
struct MembershipSimulationTests {
    @Test("members change under faults, and all promises are kept")
    func seeds() {
        var (changes, arrivals) = (0, 0)
        for seed in 1...6 as ClosedRange<UInt64> {
            let result = SimulationRun(seed: seed, minutes: 0.3, scenario: .members).run()
            #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
            changes += result.memberChanges
            arrivals += result.newPeers
        }
        #expect(changes > 100)
        #expect(arrivals > 10)
    }

    /// Seeds that once found something.
    ///
    /// - 111: a peer that was not there yet got a vote.
    /// - 113: what had been removed came back behind a new peer.
    /// - 5006: a leader that was alone by a change forgot, without power, that this was committed.
    @Test("pinned seeds", arguments: [(111, 0.5), (113, 0.5), (5006, 0.3)])
    func pinned(seed: UInt64, minutes: Double) {
        let result = SimulationRun(seed: seed, minutes: minutes, scenario: .members).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
    }
}
