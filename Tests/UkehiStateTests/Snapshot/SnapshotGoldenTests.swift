// Snapshots of format version 1 as files (Corpus/v1): what the first release wrote, every later one
// reads. UKEHI_WRITE_GOLDEN=1 writes them anew; a later zstd may compress to other bytes, which is no
// change of the format.

import Foundation
import Testing
import UkehiBase
import UkehiState

@Suite("Snapshots: golden files of format version 1")
struct SnapshotGoldenTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Corpus/v1")

    /// Values that compress, so that zstd's blocks are of its usual kinds, beside noise.
    private static let pairs: [Pair] = {
        var pairs: [Pair] = []
        var random = TestRandom(seed: 2026)
        for number in 0..<60 {
            let value =
                number % 7 == 0
                ? Bytes(random.bytes(30))
                : Bytes(String(repeating: "value \(number), ", count: number % 9))
            let key = "key \(number / 10)\(number % 10)"
            pairs.append(
                Pair(
                    key: Bytes(key), value: value, version: UInt64(number * 3 + 1),
                    expiresAt: number % 4 == 2 ? 1_800_000_000_000_000_000 + UInt64(number) : 0))
        }
        return pairs
    }()

    private static func bytes(_ name: String) throws -> [UInt8] {
        switch name {
        case "empty":
            let state = RegionState(epoch: RegionEpoch(confVersion: 1, version: 1))
            return try Sample.snapshot([], Sample.header(state: state), state: state)
        default: return try Sample.snapshot(pairs, frameBytes: 1024)
        }
    }

    @Test("are read", arguments: ["empty", "whole"])
    func read(_ name: String) throws {
        let file = Self.folder.appending(path: "\(name).snapshot")
        if ProcessInfo.processInfo.environment["UKEHI_WRITE_GOLDEN"] == "1" {
            try FileManager.default.createDirectory(
                at: Self.folder, withIntermediateDirectories: true)
            try Data(Self.bytes(name)).write(to: file)
        }
        let found = try Sample.read([UInt8](Data(contentsOf: file)))
        if name == "empty" {
            let state = RegionState(epoch: RegionEpoch(confVersion: 1, version: 1))
            #expect(found.header == Sample.header(state: state))
            #expect(found.state == state)
            #expect(found.pairs.isEmpty && found.frames.count == 1)
        } else {
            #expect(found.header == Sample.header())
            #expect(found.state == Sample.state)
            #expect(found.pairs == Self.pairs)
            #expect(found.frames.count > 3)
            #expect(found.frames.contains { $0.storedBytes * 2 < $0.rawBytes })
        }
    }

    @Test("have the bytes that the format's description gives")
    func layout() throws {
        let bytes = try Self.bytes("empty")
        let header =
            Array("UKEHISNP".utf8) + Array(bytes[8..<12]) + hex("01000000 d2000000 00000000")
            + hex("efcdab8967452301 c100000000000000 0500000000000000 0700000000000000")
            + hex("0100000000000000 0100000000000000 0000000000000000 0000000000000000")
            + hex("01000000 01000000 04000000 01000000 01000000 00000000")
            + hex("0b00000000000000 0100000000000000 0100000000000000")
            + hex("0c00000000000000 0200000000000000 0300000000000000")
            + hex("0d00000000000000 0300000000000000 0a00000000000000")
            + hex("0f00000000000000 0400000000000000 0400000000000000") + Array("an".utf8)
        #expect(header.count == 0xd2)
        #expect(Array(bytes[..<header.count]) == header)
        let frame = Array(bytes[header.count..<header.count + 40])
        #expect(Array(frame[..<4]) == Array("UKSF".utf8))
        #expect(Array(frame[8..<20]) == hex("0000000000000000 40000000"))
        #expect(Array(bytes[(bytes.count - 48)...].prefix(4)) == Array("UKSE".utf8))
        // The checksums are those that the second writer computes.
        var parts = RawSnapshot(bytes)
        parts.repair()
        #expect(parts.bytes == bytes)
    }

    private func hex(_ text: String) -> [UInt8] {
        let digits = Array(text.filter { $0 != " " })
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(String(digits[$0...$0 + 1]), radix: 16) ?? 0
        }
    }
}
