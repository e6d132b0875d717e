// Format version 1, byte by byte: a reader written from docs/FORMATS.md alone, and a fingerprint of
// the files that a fixed workload makes. If one of them fails, the format has changed.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Format version 1")
struct FormatTests {
    private struct Reader {
        var bytes: [UInt8]
        func u8(_ at: Int) -> UInt8 { bytes[at] }
        func u32(_ at: Int) -> UInt32 {
            (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) }
        }
        func u64(_ at: Int) -> UInt64 {
            (0..<8).reduce(0) { $0 | UInt64(bytes[at + $1]) << UInt64(8 * $1) }
        }
        func text(_ at: Int, _ count: Int) -> String {
            String(decoding: bytes[at..<(at + count)], as: UTF8.self)
        }
        /// Bit by bit, so that nothing is shared with the code under test.
        func checksum(_ range: Range<Int>, seed: UInt32 = 0) -> UInt32 {
            var register = ~seed
            for byte in bytes[range] {
                register ^= UInt32(byte)
                for _ in 0..<8 {
                    register = register & 1 == 1 ? register >> 1 ^ 0x82f6_3b78 : register >> 1
                }
            }
            return ~register
        }
    }

    private func fixedLog() throws -> SmallLog {
        let small = try SmallLog(seed: 42)
        var batch = LogBatch()
        batch.birth(
            region: RegionID(7), payload: "seven",
            hardState: HardState(term: Term(5), vote: PeerID(3), commit: LogIndex(0)))
        batch.append(
            region: RegionID(7),
            hardState: HardState(term: Term(6), vote: PeerID(2), commit: LogIndex(1)),
            entries: [
                Entry(term: Term(5), index: LogIndex(1), data: "abc"),
                Entry(term: Term(6), index: LogIndex(2), kind: .confChangeV2),
            ])
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        // Enough items that the directory is repeated.
        for region in UInt64(100)..<160 {
            batch.append(
                region: RegionID(region), hardState: nil,
                entries: SmallLog.entries(from: 1, count: 1, bytes: 8))
        }
        batch.compact(region: RegionID(7), firstIndex: LogIndex(2), term: Term(5))
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        return small
    }

    private func segment(_ small: SmallLog) -> Reader {
        Reader(bytes: small.fileSystem.contents(SmallLog.path("0000000000000001.wal")) ?? [])
    }

    @Test("the checksum is CRC32C")
    func checksum() {
        let reader = Reader(bytes: Array("123456789".utf8))
        #expect(reader.checksum(0..<9) == 0xe306_9283)
        #expect(CRC32C.checksum(Bytes("123456789")) == 0xe306_9283)
        #expect(
            CRC32C.checksum(Bytes("6789"), seed: CRC32C.checksum(Bytes("12345"))) == 0xe306_9283)
    }

    @Test("mark and segment header are as documented")
    func headers() throws {
        let small = try fixedLog()
        let mark = Reader(bytes: small.fileSystem.contents(SmallLog.path("mark")) ?? [])
        #expect(mark.bytes.count == 8192)
        for slot in [0, 4096] {
            #expect(mark.text(slot, 8) == "UKEHMARK")
            #expect(mark.u32(slot + 8) == mark.checksum((slot + 12)..<(slot + 48)))
            #expect(mark.u32(slot + 12) == 1)
            #expect(mark.u64(slot + 24) == (slot == 0 ? 2 : 1))
            #expect(mark.u64(slot + 32) == 1)
            #expect(mark.u64(slot + 40) == (slot == 0 ? 1 : 0))
        }
        let file = segment(small)
        for copy in [0, 4096] {
            #expect(file.text(copy, 8) == "UKEHIWAL")
            #expect(file.u32(copy + 8) == file.checksum((copy + 12)..<(copy + 88)))
            #expect(file.u32(copy + 12) == 1)
            #expect(file.u64(copy + 16) == mark.u64(16))
            #expect(file.u64(copy + 24) == 1)
            #expect(file.u64(copy + 40) == 1)
            #expect(file.u64(copy + 48) == 32 << 10)
            #expect(file.u32(copy + 56) == 1)
            #expect((60..<88).allSatisfy { file.u8(copy + $0) == 0 })
        }
    }

    @Test("frames, items and entry records are as documented")
    func frames() throws {
        let file = segment(try fixedLog())
        let first = 8192
        #expect(file.text(first, 4) == "UKF1")
        #expect(file.u32(first + 4) == file.checksum((first + 8)..<(first + 80)))
        #expect(file.u32(first + 8) == 4096)
        #expect(file.u32(first + 12) == 0)
        #expect(file.u64(first + 16) == 1)
        #expect(file.u64(first + 24) == 0)
        #expect(file.u64(first + 32) == 1)
        #expect(file.u64(first + 40) == file.u64(32))
        #expect(file.u64(first + 48) == 8192)
        #expect(file.u32(first + 56) == 0)
        #expect(file.u32(first + 60) == 2)
        #expect(file.u32(first + 64) == file.checksum((first + 80)..<(first + 240)))
        #expect(file.u32(first + 68) == 5 + 19 + 16)

        let birth = first + 80
        #expect(
            [file.u64(birth), UInt64(file.u8(birth + 8)), UInt64(file.u8(birth + 9))] == [7, 3, 1])
        #expect((0..<3).map { file.u64(birth + 32 + 8 * $0) } == [5, 3, 0])
        #expect(file.u32(birth + 56) == 5)
        #expect(file.u64(birth + 72) == 0)
        #expect(file.text(first + 240, 5) == "seven")

        let append = first + 160
        #expect(file.u8(append + 8) == 1)
        #expect(file.u32(append + 12) == 2)
        #expect(file.u64(append + 16) == 1)
        #expect(file.u64(append + 24) == 6)
        #expect((0..<3).map { file.u64(append + 32 + 8 * $0) } == [6, 2, 1])
        #expect(file.u64(append + 72) == 1)
        let body = first + 245
        let seed = Reader(
            bytes: Array(file.bytes[append..<(append + 8)])
                + Array(file.bytes[(append + 16)..<(append + 24)])
        ).checksum(0..<16)
        #expect(file.u32(append + 64) == file.checksum(body..<(body + 35), seed: seed))
        #expect(file.u32(body) == 3)
        #expect(file.u32(body + 4) == 0)
        #expect(file.u64(body + 8) == 5)
        #expect(file.text(body + 16, 3) == "abc")
        #expect([file.u32(body + 19), file.u32(body + 23)] == [0, 2])
        #expect(file.u64(body + 27) == 6)

        let second = first + 4096
        #expect(file.u32(second + 12) == 2)
        #expect(file.u64(second + 16) == 2)
        #expect(file.u64(second + 24) == 1)
        #expect(file.u32(second + 56) == file.u32(first + 4))
        let directory = 61 * 80
        let size = Int(file.u32(second + 8))
        #expect(size == (80 + 2 * directory + 60 * 24 + 4095) / 4096 * 4096)
        #expect(
            file.bytes[(second + 80)..<(second + 80 + directory)]
                == file.bytes[(second + size - directory)..<(second + size)])
        let compact = second + 80 + 60 * 80
        #expect(
            [UInt64(file.u8(compact + 8)), file.u64(compact + 16), file.u64(compact + 24)] == [
                2, 2, 5,
            ])
    }

    @Test("the bytes of a fixed workload do not change")
    func fingerprint() throws {
        let small = try fixedLog()
        let file = segment(small)
        #expect(file.checksum(0..<file.bytes.count) == 0xd242c540)
    }

    @Test("a repeated directory stands in for a damaged one when saying what is lost")
    func repeatedDirectory() throws {
        let small = try fixedLog()
        small.claim()
        let damaged = small.fileSystem.copy()
        let path = SmallLog.path("0000000000000001.wal")
        var bytes = damaged.contents(path) ?? []
        bytes[8192 + 4096 + 100] ^= 1
        damaged.replace(path, with: bytes)
        let error = openingError(damaged)
        #expect(error?.code == .corrupted)
        #expect(error?.position?.offset == 8192 + 4096)
    }
}
