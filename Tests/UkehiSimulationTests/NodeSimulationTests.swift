import Testing
import UkehiBase

@testable import UkehiSimulation

/// RULES 16 and 74 under faults.
@Suite("Simulated clusters whose nodes come and go")
struct NodeSimulationTests {
    @Test(
        "disks are lost, nodes come back as new ones, most die for good, and all promises are kept")
    func seeds() {
        var (wipes, recoveries) = (0, 0)
        for seed in 1...5 as ClosedRange<UInt64> {
            let result = SimulationRun(seed: seed, minutes: 0.25, scenario: .nodes).run()
            #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
            wipes += result.wipedNodes
            recoveries += result.recoveries
        }
        #expect(wipes > 2)
        #expect(recoveries > 0)
    }
}
