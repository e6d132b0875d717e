// Every byte of a small log flipped, blocks lost, and lies with right checksums: found and located,
// or provably harmless; never a trap, a wrong entry or memory by a claimed size. A body of a sealed
// segment may be found when it is read: opening believes the segment's footer.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Damage")
struct DamageTests {
    private let small: SmallLog
    private let sound: [RecoveredRegion]
    private let soundModel: ModelLog

    init() throws {
        var options = SmallLog.options
        options.compressionThresholdBytes = 256
        small = try SmallLog(options: options)
        try small.fill(seed: 5, changes: 3, regions: 4, maxData: 300)
        let again = try SmallLog.reopened(small.fileSystem)
        sound = again.recovered
        soundModel = try ModelLog.of(again.log, again.recovered)
    }

    /// Opens the damaged disk: an error with a place, or exactly the sound state, whose entries are
    /// the sound ones or known to be damaged, by a check of the whole log, too.
    private func expectFoundOrHarmless(_ damaged: SimulatedFileSystem, _ what: String) throws {
        do throws(WALError) {
            let opened = try SmallLog(damaged, seed: 3)
            #expect(opened.recovered == sound, "\(what)")
            do {
                let model = try ModelLog.of(opened.log, opened.recovered)
                #expect(model == soundModel, "\(what)")
            } catch let error as WALError {
                #expect(error.code == .corrupted && error.position != nil, "\(what): \(error)")
                let report = WALInspector(
                    fileSystem: damaged, directory: SmallLog.directory
                ).verify()
                #expect(report.problem?.code == .corrupted, "\(what)")
            } catch {
                Issue.record("\(what): \(error)")
            }
        } catch {
            #expect(
                [.corrupted, .identity, .unsupportedVersion].contains(error.code),
                "\(what): \(error)")
        }
    }

    @Test("every flipped bit is found or harmless")
    func flips() throws {
        var random = SeededRandom(seed: 8)
        for name in try small.fileSystem.list(SmallLog.directory) {
            let path = SmallLog.path(name)
            let bytes = small.fileSystem.contents(path) ?? []
            // Each byte that is in use; of the zeros behind, some.
            let used = (bytes.lastIndex { $0 != 0 } ?? 0) + 1
            let places =
                Array(stride(from: 0, to: used, by: 7))
                + Array(stride(from: used, to: bytes.count, by: 997))
            for place in places {
                let damaged = small.fileSystem.copy()
                var flipped = bytes
                flipped[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                damaged.replace(path, with: flipped)
                try expectFoundOrHarmless(damaged, "\(name) at \(place)")
            }
        }
    }

    @Test("blocks that became zeros, junk or another block are found or harmless")
    func blocks() throws {
        var random = SeededRandom(seed: 9)
        for name in small.segmentNames {
            let path = SmallLog.path(name)
            let bytes = small.fileSystem.contents(path) ?? []
            for start in stride(from: 0, to: bytes.count, by: 512) {
                let end = min(start + 512, bytes.count)
                let other = Int.random(in: 0..<(bytes.count / 512), using: &random) * 512
                let count = min(end - start, bytes.count - other)
                for replacement in [
                    [UInt8](repeating: 0, count: end - start), random.bytes(end - start),
                    Array(bytes[other..<(other + count)]),
                ] {
                    let damaged = small.fileSystem.copy()
                    var changed = bytes
                    changed.replaceSubrange(start..<(start + replacement.count), with: replacement)
                    damaged.replace(path, with: changed)
                    try expectFoundOrHarmless(damaged, "\(name) from \(start)")
                }
            }
        }
    }

    /// Changes fields and makes the checksums right again, so that the checks behind them are met.
    @Test("lies with right checksums never trap", arguments: UInt64(1)...6)
    func lies(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for _ in 0..<400 {
            let damaged = small.fileSystem.copy()
            let name = small.segmentNames.randomElement(using: &random) ?? ""
            let path = SmallLog.path(name)
            var bytes = damaged.contents(path) ?? []
            var frames: [Int] = []
            for block in stride(from: SegmentFormat.firstFrameOffset, to: bytes.count, by: 4096)
            where bytes[block] == 0x55 && bytes[block + 1] == 0x4b { frames.append(block) }
            guard let frame = frames.randomElement(using: &random) else { continue }
            bytes.withUnsafeMutableBytes { raw in
                guard let base = raw.baseAddress else { return }
                Liar(base: base + frame, limit: raw.count - frame).lie(&random)
            }
            damaged.replace(path, with: bytes)
            do throws(WALError) {
                let opened = try SmallLog(damaged, seed: 3)
                _ = try? ModelLog.of(opened.log, opened.recovered)
            } catch {
                #expect(!error.message.isEmpty)
            }
            _ = WALInspector(fileSystem: damaged, directory: SmallLog.directory).audit()
        }
    }

    @Test("a frame of another history, right in itself, does not fit the chain")
    func otherHistory() throws {
        let (a, b) = (try SmallLog(seed: 6), try SmallLog(seed: 6))
        try a.append(1, from: 1, bytes: 100)
        try b.append(1, from: 1, bytes: 101)
        for log in [a, b] {
            try log.append(1, from: 2)
            log.claim()
        }
        let path = SmallLog.path(a.segmentNames[0])
        let (mine, other) = (a.fileSystem.contents(path) ?? [], b.fileSystem.contents(path) ?? [])
        let second = SegmentFormat.firstFrameOffset + FrameFormat.blockBytes
        var mixed = mine
        // The write of the second frame was lost, and another one of that place is there.
        mixed.replaceSubrange(second..<(second + 4096), with: other[second..<(second + 4096)])
        #expect(mixed != mine)
        let damaged = a.fileSystem.copy()
        damaged.replace(path, with: mixed)
        let error = openingError(damaged)
        #expect(error?.code == .corrupted)
        #expect(error?.position?.offset == UInt64(second))
    }

    @Test("junk instead of any file never traps")
    func junk() throws {
        var random = SeededRandom(seed: 77)
        for name in try small.fileSystem.list(SmallLog.directory) {
            for count in [0, 1, 47, 48, 4095, 4096, 8192, 8193, 40_000] {
                let damaged = small.fileSystem.copy()
                damaged.replace(SmallLog.path(name), with: random.bytes(count))
                try expectFoundOrHarmless(damaged, "\(name) of \(count) junk bytes")
            }
        }
    }
}

/// Edits one frame in place.
private struct Liar {
    var base: UnsafeMutableRawPointer
    var limit: Int

    func lie(_ random: inout SeededRandom) {
        let interesting: [UInt64] = [
            0, 1, 2, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 62, .max, .max - 1, 80, 4096,
        ]
        let value = random.oneIn(2) ? random.next() : interesting.randomElement(using: &random) ?? 0
        let count = UnsafeRawPointer(base).get(UInt32.self, at: 60)
        if count > 0, count < 1000, random.oneIn(2) {
            let item =
                base + FrameFormat.headerBytes + Int.random(in: 0..<Int(count), using: &random) * 80
            let field = Int.random(in: 0..<80, using: &random)
            if random.oneIn(2) {
                item.storeBytes(
                    of: UInt8(truncatingIfNeeded: value), toByteOffset: field, as: UInt8.self)
            } else {
                item.put(value, at: field & ~7)
            }
        } else if random.oneIn(2) {
            // A record's header inside a body, with the body's checksum made right.
            repairBodies(&random, value)
        } else {
            base.put(value, at: Int.random(in: 1..<10, using: &random) * 8)
        }
        repair()
    }

    private func repairBodies(_ random: inout SeededRandom, _ value: UInt64) {
        let raw = UnsafeRawPointer(base)
        let count = Int(raw.get(UInt32.self, at: 60))
        var at = FrameFormat.headerBytes + count * 80
        for position in 0..<count {
            let item = base + FrameFormat.headerBytes + position * 80
            let length = Int(UnsafeRawPointer(item).get(UInt32.self, at: 56))
            guard length >= 16, at + length <= limit else { continue }
            (base + at).put(
                UInt32(truncatingIfNeeded: value), at: random.oneIn(2) ? 0 : 4)
            let seed = FrameFormat.bodySeed(
                region: RegionID(UnsafeRawPointer(item).get(UInt64.self, at: 0)),
                firstIndex: LogIndex(UnsafeRawPointer(item).get(UInt64.self, at: 16)))
            item.put(
                CRC32C.checksum(
                    UnsafeRawBufferPointer(start: base + at, count: length), seed: seed),
                at: 64)
            at += length
        }
    }

    /// Makes directory and header checksums right.
    private func repair() {
        let count = Int(UnsafeRawPointer(base).get(UInt32.self, at: 60))
        let bytes = count * 80
        if FrameFormat.headerBytes + bytes <= limit {
            base.put(
                CRC32C.checksum(
                    UnsafeRawBufferPointer(start: base + FrameFormat.headerBytes, count: bytes)),
                at: 64)
        }
        base.put(CRC32C.checksum(UnsafeRawBufferPointer(start: base + 8, count: 72)), at: 4)
    }
}
