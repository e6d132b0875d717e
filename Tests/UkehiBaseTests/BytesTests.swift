import Testing
import UkehiBase

@Suite("Bytes, writers and readers")
struct BytesTests {
    @Test("slices share, compare by content and sort as unsigned bytes")
    func slices() {
        let all: Bytes = "hello world"
        let world = all[6..<11]
        #expect(world == "world")
        #expect(world.hashValue == Bytes("world").hashValue)
        #expect(world[1..<3] == "or")
        #expect(Bytes([0x7F]) < Bytes([0x80]))
        #expect(Bytes("a") < Bytes("aa"))
        #expect(Bytes() < Bytes([0]))
        #expect(all[3..<3].isEmpty)
    }

    @Test("a slice past the end stops the process")
    func sliceOutOfRange() async {
        await #expect(processExitsWith: .failure) {
            _ = Bytes("abc")[1..<4]
        }
    }

    @Test("taken slices stay as they were while the writer goes on")
    func writerAsArena() {
        var writer = ByteWriter(chunkCapacity: 64)
        var taken: [Bytes] = []
        for number in 0..<100 {
            writer.append(UInt64(number))
            writer.append(Bytes("-\(number)"))
            taken.append(writer.take())
        }
        for (number, bytes) in taken.enumerated() {
            var reader = ByteReader(bytes)
            #expect((try? reader.read(UInt64.self)) == UInt64(number))
            #expect(reader.readRest() == Bytes("-\(number)"))
        }
    }

    @Test("overwrite, truncate and discard touch only what was not taken")
    func writerEdits() throws {
        var writer = ByteWriter(chunkCapacity: 16)
        writer.append(UInt32(0))
        writer.appendLengthPrefixed("abc")
        writer.overwrite(UInt32(7), at: 0)
        writer.append(UInt8(1))
        writer.truncate(to: 11)
        let first = writer.take()
        writer.append(UInt8(9))
        writer.discard()
        #expect(writer.take().isEmpty)
        var reader = ByteReader(first)
        #expect(try reader.read(UInt32.self) == 7)
        #expect(try reader.readLengthPrefixed() == "abc")
        try reader.expectEnd()
    }

    @Test("every truncation of an entry record is an error, never a trap")
    func entryRecordTruncations() throws {
        var writer = ByteWriter()
        let entry = Entry(term: Term(3), index: LogIndex(9), kind: .confChangeV2, data: "payload")
        entry.encodeRecord(into: &writer)
        let record = writer.take()
        #expect(record.count == entry.recordBytes)
        var whole = ByteReader(record)
        #expect(try Entry.decodeRecord(from: &whole, index: LogIndex(9)) == entry)
        for length in 0..<record.count {
            var reader = ByteReader(record[0..<length])
            #expect(throws: DecodeError.self) {
                _ = try Entry.decodeRecord(from: &reader, index: LogIndex(9))
            }
        }
    }

    @Test("CRC32C agrees with the published check value and is seedable")
    func crc32c() {
        #expect(CRC32C.checksum(Bytes("123456789")) == 0xE306_9283)
        let parts = CRC32C.checksum(Bytes("6789"), seed: CRC32C.checksum(Bytes("12345")))
        #expect(parts == 0xE306_9283)
        #expect(CRC32C.checksum(Bytes()) == 0)
    }

    @Test("ranges: half-open, empty end is no end")
    func keyRanges() {
        let range = KeyRange(lower: "b", upper: "d")
        #expect(range.contains("b") && range.contains("cz") && !range.contains("d"))
        #expect(KeyRange.all.contains(range) && !range.contains(KeyRange.all))
        #expect(range.overlaps(KeyRange(lower: "c", upper: Bytes())))
        #expect(!range.overlaps(KeyRange(lower: "d", upper: "e")))
    }
}
