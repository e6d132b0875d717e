import Testing
import UkehiBase
import UkehiNode
import UkehiState
import _UkehiTestSupport

@testable import UkehiCommand

/// What verification must find: each kind of lost, changed or invented data is planted once.
@Suite("bench: verification finds what is wrong", .prompt)
struct VerificationTests {
    private func record(
        _ fill: (AckTable, inout UnknownWrites) -> Void
    ) throws -> WriteRecord {
        var settings = BenchSettings(mix: try #require(OperationMix(readRatio: 0)))
        settings.keys = 100
        let table = AckTable(count: 100)
        var unknown = UnknownWrites()
        fill(table, &unknown)
        return WriteRecord(
            table: table, unknown: unknown, workload: Workload(settings: settings, input: nil))
    }

    private func value(_ record: WriteRecord, _ stamp: UInt64, version: UInt64) -> VersionedValue {
        VersionedValue(value: record.workload.value(stamp), version: version)
    }

    @Test("the last acknowledged write is right")
    func right() throws {
        let record = try record { table, _ in
            table.acknowledge(key: 5, version: 9, stamp: 77)
            table.acknowledge(key: 6, version: 3, stamp: AckTable.deleted)
        }
        #expect(record.difference(key: 5, found: value(record, 77, version: 9)) == nil)
        #expect(record.difference(key: 6, found: nil) == nil)
    }

    @Test("a lost key, an older version, another value and an invented write are wrong")
    func wrong() throws {
        let record = try record { table, _ in
            table.acknowledge(key: 5, version: 9, stamp: 77)
            table.acknowledge(key: 6, version: 3, stamp: AckTable.deleted)
        }
        #expect(record.difference(key: 5, found: nil)?.contains("gone") == true)
        #expect(record.difference(key: 5, found: value(record, 76, version: 8)) != nil)
        #expect(record.difference(key: 5, found: value(record, 76, version: 9)) != nil)
        #expect(record.difference(key: 5, found: value(record, 78, version: 10)) != nil)
        #expect(record.difference(key: 6, found: value(record, 1, version: 3)) != nil)
    }

    @Test("a write of unknown outcome may be there or not, whole or not at all")
    func unknown() throws {
        let record = try record { table, unknown in
            table.acknowledge(key: 5, version: 9, stamp: 77)
            unknown.note(key: 5, stamp: 78)
            unknown.note(key: 7, stamp: 79)
            table.acknowledge(key: 8, version: 2, stamp: 80)
            unknown.note(key: 8, stamp: AckTable.deleted)
        }
        #expect(record.difference(key: 5, found: value(record, 77, version: 9)) == nil)
        #expect(record.difference(key: 5, found: value(record, 78, version: 12)) == nil)
        #expect(record.difference(key: 5, found: nil) != nil)
        #expect(record.difference(key: 7, found: nil) == nil)
        #expect(record.difference(key: 7, found: value(record, 79, version: 1)) == nil)
        #expect(record.difference(key: 7, found: value(record, 80, version: 1)) != nil)
        #expect(record.difference(key: 8, found: nil) == nil)
    }

    @Test("errors name keys by number, never by their bytes")
    func noKeysInErrors() throws {
        let record = try record { table, _ in table.acknowledge(key: 5, version: 9, stamp: 77) }
        let text = try #require(record.difference(key: 5, found: nil))
        let key = String(decoding: record.workload.allKeys()[5].array, as: UTF8.self)
        #expect(!text.contains(key))
        #expect(text.contains("key number 5"))
    }

    @Test("keys are drawn only where the node leads, few or many", arguments: [50, 200_000])
    func ownedKeys(count: Int) throws {
        var settings = BenchSettings(mix: try #require(OperationMix(readRatio: 0)))
        settings.keys = count
        let workload = Workload(settings: settings, input: nil)
        var topology = ClientLaneTests.topology()
        topology.regions[0].leader = NodeID(2)
        topology.regions[2].leader = nil
        let owned = OwnedKeys(
            node: ClientLaneTests.node, topology: topology, workload: workload)
        var random = BenchRandom(seed: 1)
        for _ in 0..<500 {
            let number = try #require(owned.draw(&random))
            let key = try #require(workload.generatedKey(number))
            let region = try #require(topology.regions.first { $0.range.contains(key) })
            #expect(region.leader == ClientLaneTests.node)
        }
    }
}
