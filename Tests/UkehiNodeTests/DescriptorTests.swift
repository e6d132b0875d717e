// The bytes of descriptors, births and tombstones.

import Testing
import UkehiBase
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("region descriptors")
struct DescriptorTests {
    static let joint = RegionDescriptor(
        region: RegionID(7), isSystem: false, range: KeyRange(lower: "a", upper: "b"),
        epoch: RegionEpoch(confVersion: 5, version: 6),
        peers: [
            PeerDescriptor(peer: PeerID(10), node: NodeID(1), roles: [.voter, .outgoingVoter]),
            PeerDescriptor(
                peer: PeerID(11), node: NodeID(2), roles: [.outgoingVoter, .nextLearner]),
            PeerDescriptor(peer: PeerID(12), node: NodeID(3)),
            PeerDescriptor(peer: PeerID(13), node: NodeID(4), roles: .learner),
        ], leavesJoint: true)

    private static func bytes(_ hex: String) -> Bytes {
        let digits = Array(hex.filter { !$0.isWhitespace })
        return Bytes(
            stride(from: 0, to: digits.count, by: 2).compactMap {
                UInt8(String(digits[$0..<$0 + 2]), radix: 16)
            })
    }

    @Test("version 2")
    func golden() throws {
        let golden = Self.bytes(
            """
            02 00 0100 0700000000000000 0500000000000000 0600000000000000
            01000000 61 01000000 62 04000000
            0a00000000000000 0100000000000000 03
            0b00000000000000 0200000000000000 0a
            0c00000000000000 0300000000000000 01
            0d00000000000000 0400000000000000 04
            """)
        #expect(Self.joint.encoded() == golden)
        #expect(try RegionDescriptor.decode(golden) == Self.joint)
        let configuration = Self.joint.configuration
        #expect(configuration.voters == [PeerID(10), PeerID(12)])
        #expect(configuration.votersOutgoing == [PeerID(10), PeerID(11)])
        #expect(configuration.learners == [PeerID(13)])
        #expect(configuration.learnersNext == [PeerID(11)])
        #expect(configuration.autoLeave && Self.joint.isJoint)
    }

    @Test("version 1 is read; what follows it was reserved and is not looked at")
    func versionOne() throws {
        let golden = Self.bytes(
            """
            01 01 0000 0100000000000000 0100000000000000 0100000000000000
            00000000 00000000 02000000
            0a00000000000000 0100000000000000 00
            0b00000000000000 0200000000000000 01
            """)
        let descriptor = try RegionDescriptor.decode(golden)
        #expect(descriptor.isSystem && !descriptor.leavesJoint && !descriptor.isJoint)
        #expect(
            descriptor.peers == [
                PeerDescriptor(peer: PeerID(10), node: NodeID(1)),
                PeerDescriptor(peer: PeerID(11), node: NodeID(2), roles: .learner),
            ])
        #expect(try RegionDescriptor.decode(descriptor.encoded()) == descriptor)
    }

    @Test("what no group can have is refused")
    func impossible() throws {
        func isRefused(_ change: (inout RegionDescriptor) -> Void) -> Bool {
            var descriptor = Self.joint
            change(&descriptor)
            return (try? RegionDescriptor.decode(descriptor.encoded())) == nil
        }
        #expect(!isRefused { _ in })
        #expect(isRefused { $0.peers[0].roles = [] })
        // Of what is past every bound there could be no next one.
        #expect(isRefused { $0.region = RegionID(1 << 62) })
        #expect(isRefused { $0.epoch.confVersion = .max })
        #expect(isRefused { $0.epoch.version = 1 << 62 })
        #expect(isRefused { $0.peers[3].peer = PeerID(1 << 62) })
        #expect(isRefused { $0.peers[3].node = NodeID(.max) })
        #expect(isRefused { $0.peers[0].roles = [.voter, .learner] })
        #expect(isRefused { $0.peers[0].roles = PeerRoles(rawValue: 16) })
        #expect(isRefused { $0.peers[1].peer = $0.peers[0].peer })
        #expect(isRefused { $0.peers[1].node = $0.peers[0].node })
        #expect(isRefused { $0.peers[0].peer = .none })
        #expect(isRefused { $0.peers = [] })
        #expect(isRefused { $0.peers = [$0.peers[3]] })
        #expect(isRefused { $0.peers = [$0.peers[2]] })
        var later = Self.joint.encoded().array
        later[0] = 3
        #expect(throws: DecodeError.self) { try RegionDescriptor.decode(Bytes(later)) }
        later[0] = 2
        later[2] = 2
        #expect(throws: DecodeError.self) { try RegionDescriptor.decode(Bytes(later)) }
    }

    @Test("births and tombstones")
    func births() throws {
        var origin = Self.joint
        origin.epoch.confVersion = 1
        let first = RegionBirth(origin: origin)
        // As it was before there were introductions.
        #expect(first.encoded() == origin.encoded())
        #expect(try RegionBirth.decode(first.encoded()) == first)
        let later = RegionBirth(origin: origin, introduction: Self.joint)
        #expect(try RegionBirth.decode(later.encoded()) == later)
        #expect(later.naming == Self.joint && first.naming == origin)
        let backwards = RegionBirth(origin: Self.joint, introduction: origin)
        #expect(throws: DecodeError.self) { try RegionBirth.decode(backwards.encoded()) }
        let tombstone = RegionTombstone(
            peer: PeerID(11), epoch: RegionEpoch(confVersion: 9, version: 6), last: Self.joint)
        #expect(try RegionTombstone.decode(tombstone.encoded()) == tombstone)
        #expect(throws: DecodeError.self) { try RegionTombstone.decode(Self.joint.encoded()) }
    }

    @Test("damaged bytes are refused or something else, never a trap")
    func damaged() {
        let birth = RegionBirth(origin: Self.joint, introduction: Self.joint).encoded()
        let tombstone = RegionTombstone(
            peer: PeerID(11), epoch: Self.joint.epoch, last: Self.joint
        ).encoded()
        for whole in [birth, tombstone] {
            for length in 0..<whole.count {
                let cut = whole[0..<length]
                // Half a birth is one of a first peer.
                if length != Self.joint.encoded().count {
                    #expect((try? RegionBirth.decode(cut)) == nil)
                }
                #expect((try? RegionTombstone.decode(cut)) == nil)
            }
            for position in 0..<whole.count {
                for value in [0, 1, 0x7f, 0xff] as [UInt8] {
                    var bytes = whole.array
                    bytes[position] = value
                    _ = try? RegionBirth.decode(Bytes(bytes))
                    _ = try? RegionTombstone.decode(Bytes(bytes))
                }
            }
        }
    }
}
