// Nodes that lose their disks and are replaced, and majorities that are lost, under faults.

import Testing

@testable import UkehiSimulation

@Suite("Simulated nodes that come and go")
struct NodesSimulationTests {
    /// Seeds that once found something.
    ///
    /// - 5005: nobody could join: the registry was written once, and that had come to nothing.
    /// - 2700773: a joint configuration was not left after a transfer that came to nothing.
    /// - 2700012: members were looked at only right behind quorum checks, when nobody has answered yet.
    /// - 2701665: a peer forced to lead sent what it lost without power, and nobody could lead any more.
    ///   (These four drew other schedules then: members move in each of them since.)
    /// - 9200481: a learner knew its dead leader for ever, and its region could not be recovered; and it was to
    ///   lead by a log that ended before it was a member.
    @Test(
        "pinned seeds",
        arguments: [
            (5005, 0.3), (2_700_012, 0.3), (2_700_773, 0.3), (2_701_665, 0.3), (9_200_481, 0.3),
        ])
    func pinned(seed: UInt64, minutes: Double) {
        let result = SimulationRun(seed: seed, minutes: minutes, scenario: .nodes).run()
        #expect(result.failure == nil, "seed \(seed): \(result.lastEvents)")
    }
}
