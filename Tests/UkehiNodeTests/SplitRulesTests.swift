// What divides a region, what is refused, and what a new region is born with.

import Testing
import UkehiBase
import UkehiState

@testable import UkehiNode

@Suite("rules of splits")
struct SplitRulesTests {
    static let region = RegionDescriptor(
        region: RegionID(7), isSystem: false, range: KeyRange(lower: "d", upper: "p"),
        epoch: RegionEpoch(confVersion: 4, version: 6),
        peers: [
            PeerDescriptor(peer: PeerID(10), node: NodeID(1)),
            PeerDescriptor(peer: PeerID(11), node: NodeID(3)),
            PeerDescriptor(peer: PeerID(12), node: NodeID(2), roles: .learner),
        ])

    static func part(
        _ id: UInt64, _ end: Bytes, leader: UInt64 = 1, peers: [UInt64] = [1, 2, 3]
    ) -> SplitCommand.Part {
        SplitCommand.Part(
            region: RegionID(id), end: end, leader: PeerID(id * 100 + leader),
            peers: peers.map { PeerID(id * 100 + $0) })
    }

    @Test("parts from the lower end on, each on the same nodes; the region keeps what is left")
    func divides() throws {
        let command = SplitCommand(parts: [
            Self.part(20, "g"), Self.part(21, "k", peers: [3, 1, 2]),
        ])
        let (parent, children) = try Self.region.splitting(by: command, epoch: Self.region.epoch)
        #expect(parent.range == KeyRange(lower: "k", upper: "p"))
        #expect(parent.region == RegionID(7) && parent.peers == Self.region.peers)
        #expect(children.map(\.range.lower) == ["d", "g"])
        #expect(children.map(\.range.upper) == ["g", "k"])
        let epoch = RegionEpoch(confVersion: 4, version: 8)
        #expect(([parent] + children).allSatisfy { $0.epoch == epoch })
        #expect(
            children[1].peers == [
                PeerDescriptor(peer: PeerID(2101), node: NodeID(3)),
                PeerDescriptor(peer: PeerID(2102), node: NodeID(2), roles: .learner),
                PeerDescriptor(peer: PeerID(2103), node: NodeID(1)),
            ])
        // What is made can be stored.
        for made in [parent] + children {
            #expect(try RegionDescriptor.decode(made.encoded()) == made)
        }
    }

    @Test("what is refused, and why")
    func refusals() {
        func refusal(
            _ parts: [SplitCommand.Part], epoch: RegionEpoch = SplitRulesTests.region.epoch,
            of region: RegionDescriptor = SplitRulesTests.region
        ) -> SplitRefusal? {
            do throws(SplitRefusal) {
                _ = try region.splitting(by: SplitCommand(parts: parts), epoch: epoch)
                return nil
            } catch {
                return error
            }
        }
        #expect(refusal([Self.part(20, "g")]) == nil)
        for end in ["d", "c", "p", "q", ""] as [Bytes] {
            #expect(refusal([Self.part(20, end)]) == .keyOutside, "\(end)")
        }
        #expect(refusal([Self.part(20, "g"), Self.part(21, "g")]) == .keysUnordered)
        #expect(refusal([Self.part(20, "g"), Self.part(21, "f")]) == .keysUnordered)
        let long = Bytes(Array(repeating: UInt8(ascii: "g"), count: Limits.maxKeyBytes + 1))
        #expect(refusal([Self.part(20, long)]) == .malformed)
        #expect(refusal([]) == .tooMany)
        #expect(refusal((0..<65).map { Self.part(20 + $0, "g") }) == .tooMany)
        #expect(refusal([Self.part(7, "g")]) == .malformed)
        // One that was there before it.
        #expect(refusal([Self.part(6, "g")]) == .malformed)
        #expect(refusal([Self.part(1, "g")]) == .malformed)
        #expect(refusal([Self.part(20, "g"), Self.part(20, "h")]) == .malformed)
        #expect(refusal([Self.part(20, "g", peers: [1, 2])]) == .malformed)
        var forged = Self.part(20, "g")
        forged.region = RegionID(1 << 62)
        #expect(refusal([forged]) == .malformed)
        forged.region = RegionID(20)
        forged.peers[2] = PeerID(1 << 62)
        #expect(refusal([forged]) == .malformed)
        #expect(refusal([Self.part(20, "g", peers: [1, 2, 2])]) == .malformed)
        // A learner, and nobody, leads nothing.
        #expect(refusal([Self.part(20, "g", leader: 3)]) == .malformed)
        #expect(refusal([Self.part(20, "g", leader: 9)]) == .malformed)
        for old in [(3, 6), (5, 6), (4, 5), (4, 7)] as [(UInt64, UInt64)] {
            #expect(
                refusal(
                    [Self.part(20, "g")], epoch: RegionEpoch(confVersion: old.0, version: old.1))
                    == .staleEpoch)
        }
        var joint = Self.region
        joint.peers[1].roles = [.outgoingVoter]
        #expect(refusal([Self.part(20, "g")], of: joint) == .pending)
        var system = Self.region
        system.isSystem = true
        #expect(refusal([Self.part(20, "g")], of: system) == .system)
    }

    @Test("a birth tells what the region came out of; its bytes are read to the last")
    func birth() throws {
        let parting = RegionBirth.Parting(
            parent: RegionID(3), peer: PeerID(5), index: LogIndex(77))
        var introduction = Self.region
        introduction.epoch.confVersion += 1
        for birth in [
            RegionBirth(origin: Self.region),
            RegionBirth(origin: Self.region, introduction: introduction),
            RegionBirth(origin: Self.region, parting: parting),
            RegionBirth(origin: Self.region, introduction: introduction, parting: parting),
        ] {
            let bytes = birth.encoded()
            #expect(try RegionBirth.decode(bytes) == birth)
            for length in 0..<bytes.count {
                let cut = try? RegionBirth.decode(bytes[0..<length])
                #expect(cut == nil || cut != birth)
            }
        }
        #expect(RegionBirth(origin: Self.region).logBegins == .zero)
        #expect(RegionBirth(origin: Self.region, parting: parting).logBegins == LogIndex(5))
        introduction.epoch.version += 1
        introduction.range = KeyRange(lower: "k", upper: "p")
        let later = RegionBirth(origin: Self.region, introduction: introduction)
        #expect(later.logBegins == LogIndex(1) && later.firstRange == introduction.range)
        let own = RegionBirth(
            origin: Self.region,
            parting: .init(parent: Self.region.region, peer: PeerID(1), index: LogIndex(1)))
        #expect(throws: DecodeError.self) { try RegionBirth.decode(own.encoded()) }
    }
}
