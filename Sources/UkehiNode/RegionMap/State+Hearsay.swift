// What a node knows of regions that it has no peer of: by the map, and by what it heard otherwise, as that its own peer
// has gone. Whichever is newer counts; both are no more than where to ask.

import UkehiBase
import UkehiRaft

extension NodeCore.State {
    /// The last recovery from a lost quorum that this node knows of.
    var generation: UInt64 { identity.record?.registry.generation ?? 0 }

    /// Who is to be told of regions, if that is known.
    var mapReign: MapReign? {
        guard let own = identity.node else { return nil }
        if keeping.term > .zero {
            return MapReign(node: own, term: keeping.term, generation: generation)
        }
        guard let heard = keeping.heard, heard.look + NodeLoads.looks >= tending.looks else {
            return nil
        }
        return MapReign(node: heard.node, term: heard.term, generation: generation)
    }

    /// Every region that this node has heard of and has no peer of, ascending by id, each as it knows it best; two may
    /// claim the same keys. What a recovery goes by.
    var hearsay: [RegionDescriptor] {
        var known = foreign.filter { $0.value.isSystem || !isOutdatedAlone($0.value) }
        for mapped in keeping.map.regions where known[mapped.region] == nil {
            known[mapped.region] = mapped
        }
        return known.values.filter { own($0.region) == nil }.sorted { $0.region < $1.region }
    }

    /// User regions that this node has no peer of, as it knows them best; no two claim the same keys, nor those of
    /// its own. O(n log n), and a walk over the map for each that was heard of otherwise and counts.
    var elsewhere: [RegionDescriptor] {
        // Of what is known from hearsay the newer is true where two claim the same keys (RULES 25); in the map no
        // two do.
        let heard = foreign.values.filter { !$0.isSystem && !isOutdated($0) }.sorted {
            ($1.epoch.version, $0.region) < ($0.epoch.version, $1.region)
        }
        var others: [RegionDescriptor] = []
        for known in heard where !others.contains(where: { $0.range.overlaps(known.range) }) {
            others.append(known)
        }
        let kept = others
        others += keeping.map.regions.filter { mapped in
            !kept.contains { $0.region == mapped.region || $0.range.overlaps(mapped.range) }
        }
        let table = table
        return others.filter { table[$0.region] == nil && table.overlapping($0.range).isEmpty }
    }

    /// The newest that is known of where a key is, but for this node's own regions.
    func foreignRegion(of key: Bytes, where fits: (RegionDescriptor) -> Bool) -> RegionDescriptor? {
        let known = foreign.values.filter {
            !$0.isSystem && $0.range.contains(key) && !isOutdated($0) && fits($0)
        }
        if let newest = known.max(by: { $0.epoch.version < $1.epoch.version }) { return newest }
        return keeping.map.region(of: key).flatMap { fits($0) ? $0 : nil }
    }

    /// The newest that is known of a region that this node has no peer of.
    func foreignRegion(_ region: RegionID) -> RegionDescriptor? {
        guard let known = foreign[region], known.isSystem || !isOutdated(known) else {
            return keeping.map[region] ?? foreign[region]
        }
        return known
    }

    /// Whether the map knows better than what this node heard otherwise: that the region has changed since, or that
    /// its keys are others'. What was heard stays: a map is forgotten sooner.
    func isOutdated(_ known: RegionDescriptor) -> Bool {
        isOutdatedAlone(known)
            || keeping.map.overlapping(known.range).contains { isBetter($0, than: known) }
    }

    /// The same of the map's record of this region alone.
    func isOutdatedAlone(_ known: RegionDescriptor) -> Bool {
        keeping.map[known.region].map { isBetter($0, than: known) } ?? false
    }

    private func isBetter(_ mapped: RegionDescriptor, than known: RegionDescriptor) -> Bool {
        // What was reported after a recovery from lost quorums outweighs what was heard before that.
        let (reported, heard) = (
            keeping.map.generation(of: mapped.region) ?? 0, keeping.heardAt[known.region] ?? 0
        )
        guard reported == heard else { return reported > heard }
        guard mapped.region == known.region else {
            return mapped.epoch.version > known.epoch.version
        }
        return mapped.epoch.version >= known.epoch.version
            && mapped.epoch.confVersion >= known.epoch.confVersion
    }

    /// These have changed: where they are led from here, it is to be told.
    mutating func toldAnew(_ regions: [RegionID]) {
        for region in regions where leaders[region] == identity.node {
            keeping.untold.insert(region)
        }
    }

}
