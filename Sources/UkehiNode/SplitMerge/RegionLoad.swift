// What a leader knows of its region's load and size, and what it makes of that.
//
//   every second   over the threshold for long enough? ──▶ a key that shares the load ──▶ divide there
//                                                     └──▶ none: refused, and remembered with its reason
//   so many bytes  written since it was last looked at ──▶ look how large it is ──▶ divide it in equal parts
//
// All of it is in memory and of one term of office: a new leader begins with nothing.

import UkehiBase
import UkehiState

/// Why a region is not divided that would be.
enum SplitHindrance: Hashable, Sendable {
    case oneKey(percent: Int)
    case unbalanced(percent: Int)
    case smallShare(percent: Int)
    case appended
    case fewKeys
    case refused(SplitRefusal)
    // Of a moment:
    case fewSamples
    case membersChange
    case stopping
    case incomplete
    case othersFirst

    /// Nothing is decided by it: it is tried again a second later.
    var passes: Bool {
        switch self {
        case .oneKey, .unbalanced, .smallShare, .appended, .fewKeys: false
        case .refused(let refusal): refusal.passes
        case .fewSamples, .membersChange, .stopping, .incomplete, .othersFirst: true
        }
    }
}

extension SplitHindrance: CustomStringConvertible {
    var description: String {
        switch self {
        case .oneKey(let percent):
            "One key takes \(percent) % of the load: dividing would move it, not share it."
        case .unbalanced(let percent):
            "No key shares the load: the best one leaves \(percent) % more on one side, or in scans "
                + "across it."
        case .smallShare(let percent):
            "It has only \(percent) % of the load on its node's lane: to move it as it is does as much."
        case .appended:
            "Keys are appended at its end, where it was divided already: again once there is more below."
        case .fewKeys: "It is too large, and has too few keys to be divided by size."
        case .refused(let refusal): "\(refusal)"
        case .fewSamples: "Too little was seen of its load yet to choose a key."
        case .membersChange: "Its members change; it is divided when that is done."
        case .stopping: "Its node is being stopped; the next leader decides."
        case .incomplete:
            "Its leader lacks entries, or members that are dead; it is divided when it has them again."
        case .othersFirst: "Other regions of its node are being divided; its turn comes."
        }
    }
}

/// A refusal, and what was known then.
struct RememberedHindrance: Hashable {
    var reason: SplitHindrance
    /// In the lane's ticks.
    var at: UInt64
    /// Operations a second then.
    var operations: Double
}

/// What a region's size is known to be.
struct RegionSize {
    /// As last looked at; nil: never.
    private(set) var bytes: UInt64?
    /// Since then.
    private(set) var written: UInt64 = 0
    /// So much has to be written before it is looked at again.
    private var spacing: UInt64 = 0
    /// Of one look the answer is still to come.
    var isBeingLookedAt = false
    /// Not before this tick.
    private var notBefore: UInt64 = 0

    @inline(__always)
    mutating func wrote(_ size: Int) { written &+= UInt64(truncatingIfNeeded: size) }

    /// What it is at most, if nothing was written twice.
    var estimate: UInt64? { bytes.map { $0 &+ written } }

    func isDue(at tick: UInt64) -> Bool {
        !isBeingLookedAt && written >= spacing && tick >= notBefore
    }

    /// It is so large now. The next look comes when it may have reached the limit, and not before so much
    /// was written as makes a look worth while; where keys are mostly written again, later and later, so that
    /// looking costs no more than writing does.
    mutating func found(_ now: UInt64, limit: UInt64) {
        let next = max(limit / 8, limit > now ? limit - now : 0)
        let isGrowing = bytes.map { now > $0 && (now - $0) * 2 > written } ?? true
        spacing = isGrowing ? next : max(next, min(limit, spacing * 2))
        bytes = now
        written = 0
        isBeingLookedAt = false
    }

    /// What was to be done about it came to nothing that time.
    mutating func lookAgain(after tick: UInt64) {
        spacing = 0
        notBefore = tick
    }
}

package struct RegionLoad: Sendable {
    /// Whole seconds for which the load has to be there before anything is done about it.
    static let patience = 2
    /// Samples by which a key is chosen; less where the threshold is so low that there are fewer.
    static let leastSamples = 32
    /// A region with less of its lane's load is not divided for it.
    static let leastShare = 1.0 / 8

    var meter = LoadMeter()
    var samples: KeySamples
    var size = RegionSize()
    /// Whole seconds in a row with more than the threshold.
    private(set) var busySeconds = 0
    /// Of the load alone, and not repeated before something has changed; what is too large is looked at again
    /// by its own rule.
    private(set) var hindrance: RememberedHindrance?
    /// The same of a moment: it decides nothing.
    private(set) var delay: RememberedHindrance?
    /// What size has met.
    private(set) var sizeHindrance: RememberedHindrance?
    /// Bytes written since it was divided, or since its leader leads.
    private var written: UInt64 = 0
    private var wasDividedAtEnd = false

    init(region: RegionID, threshold: Int) {
        let usual = threshold > 0 ? threshold : LoadRules.usualThreshold
        samples = KeySamples(
            floor: usual / (4 * Self.leastSamples), salt: region.rawValue)
    }

    // MARK: Counting

    @inline(__always)
    mutating func countWrite(_ key: Bytes, bytes: Int) {
        meter.countWrite(bytes)
        size.wrote(bytes)
        written &+= UInt64(truncatingIfNeeded: bytes)
        if samples.isDue(bytes: bytes) { samples.take(key, isWrite: true) }
    }

    /// - Parameter end: Where what was read ends; nil: it is the key alone.
    @inline(__always)
    mutating func countRead(_ key: Bytes, to end: @autoclosure () -> Bytes?, bytes: Int) {
        meter.countRead(bytes)
        if samples.isDue(bytes: bytes) { samples.take(key, to: end(), isWrite: false) }
    }

    /// A second has passed.
    mutating func endSecond(milliseconds: UInt64, threshold: Int) {
        let counted = meter.endSecond(milliseconds: milliseconds)
        samples.endSecond(operations: counted.operations, bytes: counted.bytes)
        let isBusy = threshold > 0 && meter.last.operations >= Double(threshold)
        busySeconds = isBusy ? busySeconds + 1 : 0
    }

    // MARK: Judging

    enum Verdict: Hashable {
        case divide(at: Bytes, SplitReason)
        case hindered(SplitHindrance)
    }

    /// What is to be done about the load; nil: nothing.
    ///
    /// - Parameters:
    ///   - rules: Thresholds, and when a refusal is looked at again.
    ///   - share: The region's part of all that its lane does, 0 to 1.
    func verdict(_ rules: LoadRules, in range: KeyRange, share: Double, at tick: UInt64) -> Verdict?
    {
        guard rules.threshold > 0, busySeconds >= Self.patience else { return nil }
        guard !isHindered(rules, at: tick) else { return nil }
        let least = min(Self.leastSamples, max(2, rules.threshold))
        if let key = LoadSplit.end(of: samples.samples, in: range, least: least) {
            guard !wasDividedAtEnd || written >= rules.bytesBelowEnd else {
                return .hindered(.appended)
            }
            return .divide(at: key, .end)
        }
        guard share >= Self.leastShare else {
            return .hindered(.smallShare(percent: Int(share * 100)))
        }
        switch LoadSplit.choose(samples.samples, in: range, least: least) {
        case .key(let key): return .divide(at: key, .load)
        case .oneKey(let percent): return .hindered(.oneKey(percent: percent))
        case .unbalanced(let percent): return .hindered(.unbalanced(percent: percent))
        case .tooFew: return .hindered(.fewSamples)
        }
    }

    /// Whether what hindered it last is still to be taken for granted.
    private func isHindered(_ rules: LoadRules, at tick: UInt64) -> Bool {
        guard let hindrance, tick < hindrance.at + rules.ticksUntilAgain else { return false }
        let now = meter.last.operations
        return now < 2 * hindrance.operations && now * 2 > hindrance.operations
    }

    /// It is not divided for its load.
    ///
    /// - Returns: Whether that is another reason than the last time.
    @discardableResult
    mutating func remember(_ reason: SplitHindrance, at tick: UInt64) -> Bool {
        let now = remembered(reason, at: tick)
        guard reason.passes else {
            delay = nil
            hindrance = now
            return true
        }
        let isNews = delay?.reason != reason
        delay = now
        return isNews
    }

    /// It is not divided for its size; nil: nor has it to be.
    mutating func rememberOfSize(_ reason: SplitHindrance?, at tick: UInt64) {
        sizeHindrance = reason.map { remembered($0, at: tick) }
    }

    private func remembered(_ reason: SplitHindrance, at tick: UInt64) -> RememberedHindrance {
        RememberedHindrance(reason: reason, at: tick, operations: meter.last.operations)
    }

    /// What it was not divided for its load for, the last time.
    var loadHindrance: RememberedHindrance? { delay ?? hindrance }

    // MARK: Divisions

    /// It was divided: what it has of these ranges is others' now, in their order.
    mutating func divide(
        into ranges: [KeyRange], because reason: SplitReason, threshold: Int, ids: [RegionID]
    ) -> [RegionLoad] {
        let parts = zip(ids, ranges).map { id, range in
            var part = RegionLoad(region: id, threshold: threshold)
            let given = samples.give(range)
            let left = samples.weight
            let taken = given.reduce(0) { $0 + $1.weight }
            // Of what is left with it, since the others have theirs already.
            part.meter = meter.give(taken + left > 0 ? taken / (taken + left) : 0)
            part.samples.take(over: given)
            return part
        }
        size = RegionSize()
        busySeconds = 0
        hindrance = nil
        delay = nil
        sizeHindrance = nil
        written = 0
        wasDividedAtEnd = wasDividedAtEnd || reason == .end
        return parts
    }
}

/// What a lane divides its regions by.
package struct LoadRules {
    /// Operations a second; 0: never for the load.
    var threshold: Int
    /// Where keys are appended, a region is divided at its end again once so much was written.
    var bytesBelowEnd: UInt64
    /// After so many ticks a refusal is looked at again.
    var ticksUntilAgain: UInt64

    /// What sampling goes by where load divides nothing.
    package static let usualThreshold = 10_000

    init(_ options: NodeOptions) {
        threshold = options.splitLoadPerSecond
        bytesBelowEnd = UInt64(options.splitBytes) / 8
        ticksUntilAgain = UInt64(
            Limits.secondsUntilSplitAgain * max(1, 1000 / options.tickMilliseconds))
    }
}

extension ReadOutcome {
    /// Bytes that an answer costs; where it is not in memory, a block of the store's.
    var costBytes: Int {
        switch self {
        case .value(let found): found?.value.count ?? 0
        case .scan(let page): page.pairs.reduce(0) { $0 + $1.key.count + $1.value.count }
        case .query(let bytes): bytes.count
        case .wouldBlock: 4096
        case .due: 0
        case .failed: 0
        }
    }
}
