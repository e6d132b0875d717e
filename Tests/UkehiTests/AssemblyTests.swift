import Logging
import Testing
import Ukehi
import UkehiNode
import UkehiWAL

/// What the parts of a node are told of its configuration.
@Suite("Assembly")
struct AssemblyTests {
    @Test("entries that cannot be read are repaired with peers, refused alone, unless it is said")
    func onDamage() async throws {
        for peers in [[], ["a:1", "b:2"]] {
            for onDamage in [nil, .repair, .refuse] as [Configuration.WAL.OnDamage?] {
                let wanted = onDamage.map { $0 == .repair } ?? !peers.isEmpty
                try await withTemporaryDirectory { directory async throws in
                    var configuration = Configuration(directory: directory)
                    // Nothing is bound or dialed before the start, which does not come.
                    configuration.cluster.listen = "127.0.0.1:1"
                    configuration.cluster.peers = peers
                    configuration.wal.segmentMegabytes = 16
                    configuration.wal.onDamage = onDamage
                    configuration.storage.state = .memory
                    let assembly = try await Assembly(
                        configuration: configuration,
                        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                        stateMachine: nil, onFailure: { _ in })
                    #expect(
                        assembly.core.log.repairsDamage == wanted, "\(peers), \(onDamage as Any)")
                    await assembly.stop()
                }
            }
        }
    }
}
