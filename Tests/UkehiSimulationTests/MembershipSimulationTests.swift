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
    @Test("pinned seeds", arguments: [111, 113])
    func pinned(seed: UInt64) {
        let result = SimulationRun(seed: seed, minutes: 0.5, scenario: .members).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
    }
}
