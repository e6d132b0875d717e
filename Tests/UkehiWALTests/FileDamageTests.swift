// A log of 64 KiB against all that can happen to its files: each byte flipped, each file cut at each
// length, segments removed, doubled, swapped, renamed, zeroed and replaced by junk.
//
// Found and located, or provably harmless: then exactly the sound state is recovered. By default a
// part of the bytes and lengths, another one in each file; UKEHI_EXHAUSTIVE=1: all of them.

import Glibc
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Damaged files")
struct FileDamageTests {
    private let small: SmallLog
    private let sound: [RecoveredRegion]
    private let soundModel: ModelLog

    init() throws {
        var options = SmallLog.options
        options.segmentBytes = 20 << 10
        options.compressionThresholdBytes = 512
        small = try SmallLog(options: options)
        try small.fill(seed: 11, changes: 8, regions: 5, maxData: 200)
        let again = try SmallLog.reopened(small.fileSystem)
        sound = again.recovered
        soundModel = try ModelLog.of(again.log, again.recovered)
    }

    private var names: [String] { ["mark"] + small.segmentNames }

    private func bytes(_ name: String) -> [UInt8] {
        small.fileSystem.contents(SmallLog.path(name)) ?? []
    }

    /// Opens the damaged disk; whether that was refused.
    @discardableResult
    private func expectLocatedOrHarmless(_ damaged: SimulatedFileSystem, _ what: Comment) -> Bool {
        do throws(WALError) {
            let opened = try SmallLog(damaged, seed: 3)
            #expect(opened.recovered == sound, what)
            return expectReadOrLocated(opened, damaged, what)
        } catch {
            #expect([.corrupted, .identity, .unsupportedVersion].contains(error.code), what)
            let isNamed = ["segment", "mark", ".wal"].contains { error.message.contains($0) }
            #expect(error.position != nil || isNamed, "\(what): \(error)")
            return true
        }
    }

    /// A body in a sealed segment is checked when it is read, and in the background: there the log opens.
    private func expectReadOrLocated(
        _ opened: SmallLog, _ damaged: SimulatedFileSystem, _ what: Comment
    ) -> Bool {
        // What footers let pass is found by whoever looks at everything.
        let problem = WALInspector(fileSystem: damaged, directory: SmallLog.directory).verify()
            .problem
        #expect(problem == nil || problem?.position != nil, what)
        do {
            let model = try ModelLog.of(opened.log, opened.recovered)
            #expect(model == soundModel, what)
        } catch {
            let failure = error as? WALError
            #expect(failure?.code == .corrupted && failure?.position != nil, "\(what): \(error)")
            #expect(problem != nil, what)
        }
        return problem != nil
    }

    private func damaged(_ change: (SimulatedFileSystem) -> Void) -> SimulatedFileSystem {
        let copy = small.fileSystem.copy()
        change(copy)
        return copy
    }

    /// All of `0..<count`, or one in `part`.
    private func places(_ count: Int, oneIn part: Int) -> StrideTo<Int> {
        isExhaustive
            ? stride(from: 0, to: count, by: 1) : stride(from: count % part, to: count, by: part)
    }

    @Test("each flipped byte is located or harmless")
    func flips() {
        #expect(names.map { bytes($0).count }.reduce(0, +) >= 64 << 10)
        for name in names {
            let bytes = bytes(name)
            var found = 0
            for place in places(bytes.count, oneIn: 101) {
                // Another bit each time, all of them over eight bytes.
                let flipped = bytes[place] ^ (1 << UInt8(place & 7))
                let disk = damaged {
                    $0.damage(SmallLog.path(name), at: place, with: [flipped])
                }
                if expectLocatedOrHarmless(disk, "byte \(place) of \(name)") { found += 1 }
            }
            // A byte of one of the mark's two slots costs nothing.
            #expect(found > 0 || name == "mark", "\(name)")
        }
    }

    @Test("each file cut at each length is located or harmless")
    func prefixes() {
        for name in names {
            let bytes = bytes(name)
            for count in places(bytes.count, oneIn: 103) {
                let disk = damaged {
                    $0.replace(SmallLog.path(name), with: Array(bytes[..<count]))
                }
                expectLocatedOrHarmless(disk, "\(name) cut to \(count)")
            }
        }
    }

    @Test("segments removed, doubled, swapped, renamed, zeroed or junk are located")
    func segments() throws {
        var random = SeededRandom(seed: 12)
        let segments = small.segmentNames
        let spare = LogNames.segment(UInt64(segments.count + 1))
        let far = LogNames.segment(UInt64(segments.count + 7))
        for name in segments {
            let path = SmallLog.path(name)
            let own = bytes(name)
            var cases: [(what: String, disk: SimulatedFileSystem)] = []
            func add(_ what: String, _ change: (SimulatedFileSystem) -> Void) {
                cases.append(("\(name) \(what)", damaged(change)))
            }
            add("removed") { try? $0.remove(path) }
            add("zeroed") { $0.replace(path, with: [UInt8](repeating: 0, count: own.count)) }
            add("empty") { $0.replace(path, with: []) }
            let junk = random.bytes(own.count)
            add("junk") { $0.replace(path, with: junk) }
            if name != segments.last {
                // In the newest no frame would be left that tells of the others.
                add("frames junk") {
                    $0.replace(path, with: Array(own[..<8192]) + junk[8192...])
                }
            }
            for target in [spare, far, "0000000000000000.wal", name + ".old"] {
                add("doubled as \(target)") { $0.replace(SmallLog.path(target), with: own) }
                add("renamed to \(target)") { try? $0.rename(path, to: SmallLog.path(target)) }
            }
            for other in segments where other != name {
                let others = bytes(other)
                add("swapped with \(other)") {
                    $0.replace(path, with: others)
                    $0.replace(SmallLog.path(other), with: own)
                }
                add("replaced by \(other)") { $0.replace(path, with: others) }
            }
            for (what, disk) in cases {
                let isFound = expectLocatedOrHarmless(disk, "\(what)")
                #expect(isFound, "\(what)")
            }
        }
    }
}

private let isExhaustive = getenv("UKEHI_EXHAUSTIVE").map { String(cString: $0) } == "1"
