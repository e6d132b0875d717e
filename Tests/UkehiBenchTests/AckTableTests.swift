import Testing

@testable import UkehiCommand

/// The memory of what clients were told.
@Suite("bench: last acknowledged writes")
struct AckTableTests {
    @Test("the highest version is the last write, however acknowledgements overtake")
    func highestVersionWins() {
        let table = AckTable(count: 4)
        table.acknowledge(key: 2, version: 8, stamp: 80)
        table.acknowledge(key: 2, version: 5, stamp: 50)
        #expect(table[2] == AckTable.Slot(version: 8, stamp: 80))
        #expect(table[3] == AckTable.Slot())
    }

    @Test("merging keeps the later of both for each key")
    func merge() {
        let a = AckTable(count: 3)
        let b = AckTable(count: 3)
        a.acknowledge(key: 0, version: 1, stamp: 1)
        a.acknowledge(key: 1, version: 9, stamp: 9)
        b.acknowledge(key: 1, version: 4, stamp: 4)
        b.acknowledge(key: 2, version: 2, stamp: 2)
        a.merge(b)
        #expect((0..<3).map { a[$0].stamp } == [1, 9, 2])
    }

    @Test("unknown writes are remembered per key")
    func unknown() {
        var unknown = UnknownWrites()
        unknown.note(key: 1, stamp: 10)
        var other = UnknownWrites()
        other.note(key: 1, stamp: 11)
        unknown.merge(other)
        #expect(unknown.contains(key: 1, stamp: 10) && unknown.contains(key: 1, stamp: 11))
        #expect(!unknown.contains(key: 2, stamp: 10))
        #expect(unknown.touches(key: 1) && !unknown.touches(key: 2))
        #expect(unknown.count == 2)
    }
}
